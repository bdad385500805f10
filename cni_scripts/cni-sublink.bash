# shellcheck shell=bash
# shellcheck disable=SC1083,SC2015,SC2034,SC2153 # literal braces; A && B || C where C ends the plugin; conf_get's variables
# What bash-macvlan and bash-ipvlan are but for their kinds: a pod's interface that lies on one of the node's.
#
#    node's namespace                       │ pods' namespaces
#                                           │
#    eth0 (master) ─────┬───────────────────┼──── eth0 (CNI_IFNAME)  10.244.1.5/16
#      to the others    └───────────────────┼──── eth0               10.244.1.6/16
#
# The plugin sets KIND, MODES (the first is the default), and functions named sublink_KIND_...; see there.
#
#   sublink_configuration ──> MASTER MODE MTU MAC IPAM            (errors name the field)
#   sublink_add           ──> node: link add TMP link MASTER netns POD;  pod: rename, addresses, routes
#
# An ADD that fails or is ended by a signal takes back all of it.

# shellcheck source-path=SCRIPTDIR source=cni-interface.bash
source "${CNI_JSON%/*}/cni-interface.bash"

# sublink_configuration: the options, checked as far as that needs no kernel.
sublink_configuration() {
    local mode
    IPAM_FILE='' IPAM_ADDED='' MADE='' IP_INTERFACE=0 MAC=''
    conf_get MASTER master string ''
    conf_get MODE mode string "${MODES[0]}"
    conf_get MTU mtu number ''
    conf_get IN_POD linkInContainer boolean false
    conf_get IPAM ipam/type string ''
    # shellcheck disable=SC2053 # a pattern
    [[ -z $MASTER || ($MASTER == $INTERFACE_NAME && ${#MASTER} -le 15) ]] || interface_wrong master "$MASTER" 7
    [[ -n $MODE ]] || MODE=${MODES[0]}
    for mode in "${MODES[@]}"; do
        [[ $mode != "$MODE" ]] || break
    done
    [[ $mode == "$MODE" ]] || fail 7 "mode: \"$MODE\" is no mode of $KIND" "one of ${MODES[*]}"
    interface_mtu
    "sublink_${KIND}_configuration"
    [[ -z $IPAM ]] || ipam_find
}

# sublink_ip ARGUMENT...: ip in the namespace where the master is.
sublink_ip() {
    if [[ $IN_POD == true ]]; then
        nsenter --net="$NETNS" ip "$@"
    else
        ip "$@"
    fi
}

# sublink_master: MASTER gets a name, MASTER_INDEX its number; its MTU bounds the configuration's. CODE is the error's.
sublink_master() {
    local shown mtu code=$1
    if [[ -z $MASTER ]]; then
        shown=$(sublink_ip -4 -o route show default 2>/dev/null) || :
        [[ $shown == *' dev '* ]] ||
            fail "$code" 'master: none given, and there is no default route whose interface it would be' 'a name such as eth0'
        MASTER=${shown#* dev } MASTER=${MASTER%%[$' \n']*}
    fi
    shown=$(sublink_ip -o link show dev "$MASTER" 2>/dev/null) ||
        fail "$code" "master: there is no interface $MASTER" 'an interface of the node (with linkInContainer, of the pod)'
    MASTER_INDEX=${shown%%:*}
    mtu=${shown#* mtu } mtu=${mtu%% *}
    [[ -z $MTU ]] || ((MTU <= mtu)) || fail 7 "mtu: $MTU" "at most $mtu, the MTU of $MASTER; or 0 for the same"
}

sublink_add() {
    local shown
    sublink_configuration
    interface_netns
    sublink_master 7
    ! nsenter --net="$NETNS" ip link show dev "$CNI_IFNAME" >/dev/null 2>&1 ||
        fail 100 "CNI_IFNAME: $CNI_IFNAME is there already in $CNI_NETNS" 'DEL before the next ADD, or another name'
    trap 'EXIT_STATUS=$?; sublink_undo' EXIT
    trap 'exit 143' HUP INT TERM
    if [[ -n $IPAM ]]; then
        ipam_add
    else
        "sublink_${KIND}_addresses"
    fi
    [[ -z ${CONF[dns]-} || ${CONF[dns]} == @(null|'{') ]] || json_dump DNS CONF dns
    sublink_make
    sublink_set
    shown=$(exec nsenter --net="$NETNS" ip -o link show dev "$CNI_IFNAME")
    MAC=${shown#*link/ether } MAC=${MAC%% *}
    trap - EXIT
    cni_print_result "[
        {\"name\": \"$CNI_IFNAME\", \"mac\": \"$MAC\", \"sandbox\": \"$CNI_NETNS\"}
    ]"
}

# sublink_make: the link, in the pod, under a name of its own: the pod's name for it may be one that the node has too.
sublink_make() {
    local batch output number
    printf -v MADE 'tmp%08x' "$SRANDOM"
    if [[ -z $MAC && -n ${IP_ADDRESS[0]-} && -n ${MAC_OF_ADDRESS-} ]]; then
        # neighbours that know the address from an earlier pod need not be told of a new MAC
        ipv4_read number "${IP_ADDRESS[0]%/*}"
        printf -v MAC '0a:58:%02x:%02x:%02x:%02x' \
            $((number >> 24)) $((number >> 16 & 255)) $((number >> 8 & 255)) $((number & 255))
    fi
    batch="link add link $MASTER name $MADE netns $NETNS ${MAC:+address $MAC} ${MTU:+mtu $MTU} type $KIND mode $MODE"
    [[ $IN_POD == false ]] || batch=${batch/netns $NETNS /}
    output=$(sublink_ip -batch - 2>&1 <<<"$batch $("sublink_${KIND}_options")") || {
        MADE=
        fail 100 "$KIND on $MASTER: ${output%%$'\n'*}" "a kernel with $KIND, and an interface that can carry it in mode $MODE"
    }
}

# sublink_set: name, addresses and routes in the pod. Of two routes to one network the first counts.
sublink_set() {
    local batch="link set $MADE name $CNI_IFNAME"$'\n'"link set $CNI_IFNAME up" i gateway more output line
    local -a commands
    for i in "${!IP_ADDRESS[@]}"; do
        batch+=$'\n'"addr add ${IP_ADDRESS[i]} brd + dev $CNI_IFNAME"
    done
    for i in "${!ROUTE_DST[@]}"; do
        gateway=${ROUTE_GW[i]:-${IP_GATEWAY[0]-}} more=${ROUTE_MORE[i]//[\",:]/}
        [[ $batch != *"route append ${ROUTE_DST[i]} "* ]] || continue
        batch+=$'\n'"route append ${ROUTE_DST[i]} ${gateway:+via $gateway} dev $CNI_IFNAME ${more/priority/metric}"
        [[ -n $gateway || $more == *scope* ]] || batch+=' scope global'
    done
    output=$(exec nsenter --net="$NETNS" ip -batch - 2>&1 <<<"$batch") || {
        output=${output%$'\n'} line=${output##*:}
        mapfile -t commands <<<"$batch"
        ((line == 1)) || MADE=$CNI_IFNAME
        fail 100 "$CNI_IFNAME in $CNI_NETNS: ${output%%$'\n'*} (ip ${commands[line - 1]-})"
    }
    MADE=$CNI_IFNAME
}

# sublink_undo: at the end of an ADD that did not get to its end.
sublink_undo() {
    set +e
    trap - EXIT
    trap '' HUP INT TERM
    [[ -z $MADE ]] || nsenter --net="$NETNS" ip link del "$MADE" 2>/dev/null ||
        nsenter --net="$NETNS" ip link del "$CNI_IFNAME" 2>/dev/null
    [[ -z $IPAM_ADDED ]] || CNI_COMMAND=DEL "$IPAM_FILE" <<<"$CONF_TEXT" >/dev/null
    cni_unexpected
}

sublink_del() {
    local output
    sublink_configuration
    if [[ -n ${CNI_NETNS-} && -e $CNI_NETNS && ! $CNI_NETNS -ef /proc/self/ns/net ]]; then
        interface_netns
        output=$(exec nsenter --net="$NETNS" ip link del dev "$CNI_IFNAME" 2>&1) ||
            # no such interface, or a path where no namespace is any more: there is nothing to do
            [[ $output == *@(does not exist|Cannot find device|nsenter: )* ]] ||
            fail 100 "CNI_IFNAME: cannot delete $CNI_IFNAME in $CNI_NETNS: ${output//$'\n'/; }"
    fi
    [[ -z $IPAM ]] || ipam_call DEL
}

sublink_check() {
    local i at pod='' count=${CONF[prevResult/interfaces]:-[0}
    sublink_configuration
    interface_netns
    sublink_master 101
    [[ -z $IPAM ]] || ipam_call CHECK
    for ((i = 0; i < ${count:1}; i++)); do
        at=prevResult/interfaces/$i
        [[ ${CONF[$at/name]-} != "\"$CNI_IFNAME" || ${CONF[$at/sandbox]-} != "\"$CNI_NETNS" ]] || pod=$at
    done
    [[ -n $pod ]] || fail 7 "prevResult.interfaces: no $CNI_IFNAME in $CNI_NETNS" 'the result of the ADD'
    interface_check "$pod"
    expect "the kind of $CNI_IFNAME" "\"$KIND" "${SHOWN_LINK[0/linkinfo/info_kind]-}"
    expect "the mode of $CNI_IFNAME" "\"$MODE" "${SHOWN_LINK[0/linkinfo/info_data/mode]-}"
    # by number where the master is in another namespace, else by name
    expect "the master of $CNI_IFNAME" "$MASTER_INDEX" "${SHOWN_LINK[0/link_index]-$MASTER_INDEX}"
    expect "the master of $CNI_IFNAME" "\"$MASTER" "${SHOWN_LINK[0/link]-\"$MASTER}"
}

# sublink_gc: the interfaces of attachments that the runtime does not know are out of sight, in namespaces of which GC is not
# told; they go with those. Their addresses are the IPAM plugin's to free.
sublink_gc() {
    cni_valid_attachments
    sublink_configuration
    [[ -z $IPAM ]] || ipam_call GC
}

# sublink_status: whether an ADD could be served.
sublink_status() {
    sublink_configuration
    [[ -z $IPAM ]] || ipam_call STATUS
    [[ $IN_POD == true ]] || sublink_master 50
    [[ $IN_POD == true ]] || sublink_kernel
}

# sublink_kernel: the kernel is asked for such a link in a namespace that goes at once; a module is loaded by that.
sublink_kernel() {
    local output
    output=$(exec unshare --net sh -c "ip link add m0 type veth peer name m1 && ip link add s0 link m0 type $KIND" 2>&1) ||
        fail 50 "$KIND: ${output%%$'\n'*}" "a kernel with $KIND"
}

cni_begin
"sublink_${CNI_COMMAND,,}"
