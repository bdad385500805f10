# shellcheck shell=bash
# shellcheck disable=SC1083,SC2015,SC2034 # literal braces; A && B || C where C ends the plugin; the plugins use what is set here
# What the plugins that make a pod's interface share, besides cni-json.bash: other plugins for its addresses, a pod's
# namespace, and CHECK's comparison of what a result says with what is there.
#
#   bash-bridge ────────────────┐                              ┌── ip -j -d addr show dev eth0   (in the pod)
#   bash-macvlan, bash-ipvlan ──┴─ this ─┬─ interface_check ───┴── ip -j -4 route show table all
#   (through cni-sublink.bash)           └─ ipam_call COMMAND ──> the plugin ipam.type, found in CNI_PATH
#
# bash-bridge reads this only for what is not on its short way.

# --- the plugin for addresses -----------------------------------------------------------------------------------------

# ipam_find: IPAM_FILE gets the path of the plugin IPAM.
ipam_find() {
    local folder code=7
    [[ $CNI_COMMAND != STATUS ]] || code=50
    [[ $IPAM != */* ]] || fail 7 "ipam.type: \"$IPAM\" is a path" 'the name of a plugin in CNI_PATH'
    local -a folders
    IFS=: read -ra folders <<<"${CNI_PATH-}"
    for folder in "${folders[@]}"; do
        IPAM_FILE=$folder/$IPAM
        [[ ! -f $IPAM_FILE || ! -x $IPAM_FILE ]] || return 0
    done
    fail "$code" "ipam.type: no plugin \"$IPAM\" in CNI_PATH (\"${CNI_PATH-}\")" 'bash-host-local or host-local, and its folder'
}

# ipam_call COMMAND: runs the plugin; its output goes into IPAM_OUTPUT. An error of its own is passed on.
ipam_call() {
    local code='' text='' details=''
    local -A answer=()
    IPAM_OUTPUT=$(CNI_COMMAND=$1 exec "$IPAM_FILE" <<<"$CONF_TEXT") && return
    [[ $1 != STATUS && $1 != GC ]] || ipam_speaks
    json_parse answer "$IPAM_OUTPUT" && code=${answer[code]-} text=${answer[msg]-} details=${answer[details]-}
    [[ $code == [1-9]*([0-9]) ]] || code=100
    fail "$code" "ipam.type: $IPAM: ${text#\"}" "${details#\"}"
}

# ipam_speaks: says that the plugin IPAM is older than the configuration, if it is: what it answers to a command that it
# does not know is no help to anybody.
ipam_speaks() {
    local spoken
    spoken=$(CNI_COMMAND=VERSION exec "$IPAM_FILE" <<<'{"cniVersion": "1.0.0"}') || return 0
    [[ $spoken == *"\"$CONF_VERSION\""* ]] ||
        fail 1 "cniVersion: $IPAM does not speak $CONF_VERSION" "an older version, or an address plugin that speaks this one"
}

ipam_add() {
    IPAM_ADDED=1
    ipam_call ADD
    declare -gA IPAM_RESULT=()
    json_parse IPAM_RESULT "$IPAM_OUTPUT" || fail 6 "ipam.type: $IPAM gave no JSON: $JSON_ERROR" 'a CNI result'
    rarely "$CNI_JSON" result_read IPAM_RESULT ''
    ((${#IP_ADDRESS[@]})) || fail 100 "ipam.type: $IPAM gave no address" 'a result with ips'
}

# --- what the configuration says of an interface ------------------------------------------------------------------------

# interface_netns: NETNS gets a path of the pod's namespace that ip(8) takes as one word; or says why there is none.
interface_netns() {
    local right="the path of the pod's network namespace, such as /run/netns/NAME or /proc/PID/ns/net"
    [[ -e $CNI_NETNS ]] || fail 4 "CNI_NETNS: there is no $CNI_NETNS" "$right"
    [[ ! $CNI_NETNS -ef /proc/self/ns/net ]] || fail 4 "CNI_NETNS: $CNI_NETNS is the node's own namespace" "$right"
    exec {NETNS}<"$CNI_NETNS" || fail 4 "CNI_NETNS: cannot open $CNI_NETNS" "$right"
    NETNS=/proc/self/fd/$NETNS
}

# interface_mac VARIABLE FIELD...: the MAC that is asked for, of several fields the last; empty when none is. CNI_ARGS MAC
# counts as a field of that name.
interface_mac() {
    local hex='[0-9a-fA-F]' field asked mac='' where='' code=7
    for field in "${@:2}"; do
        if [[ $field == CNI_ARGS ]]; then
            cni_args asked MAC
            [[ -z $asked ]] || mac=$asked where='CNI_ARGS: MAC=' code=4
        else
            conf_get asked "$field" string ''
            [[ -z $asked ]] || mac=$asked where="${field//\//.}: " code=7
        fi
    done
    # shellcheck disable=SC2053 # a pattern
    [[ -z $mac || $mac == ${hex}[02468aceACE]:$hex$hex:$hex$hex:$hex$hex:$hex$hex:$hex$hex ]] ||
        fail "$code" "$where$mac is no unicast MAC address" 'such as 02:00:00:00:00:01'
    printf -v "$1" '%s' "${mac,,}"
}

# interface_mtu: MTU gets the configuration's, empty for none.
interface_mtu() {
    [[ $MTU != 0 ]] || MTU=
    [[ -z $MTU || ($MTU == [1-9]*([0-9]) && ${#MTU} -le 5 && $MTU -ge 68 && $MTU -le 65535) ]] ||
        fail 7 "mtu: $MTU" 'a whole number from 68 to 65535, such as 1450'
}

# --- CHECK --------------------------------------------------------------------------------------------------------------

# show COMMAND...: what "ip -j" shows, into SHOWN; status 1 when there is no such thing.
show() {
    local out
    out=$("$@" 2>/dev/null) || return 1
    declare -gA SHOWN=()
    json_parse SHOWN "$out" && [[ ${SHOWN[.]} == '['[1-9]* ]]
}

# expect WHAT WANTED FOUND
expect() {
    [[ $2 == "$3" ]] || fail 101 "CHECK: $1 is ${3:-not there}" "${2:-nothing}, as ADD left it; DEL and ADD do it anew"
}

# show_addresses: SHOWN_ADDRESSES gets the IPv4 addresses in SHOWN, each between blanks.
show_addresses() {
    local i count=${SHOWN[0/addr_info]:-[0}
    SHOWN_ADDRESSES=' '
    for ((i = 0; i < ${count:1}; i++)); do
        SHOWN_ADDRESSES+="${SHOWN[0/addr_info/$i/local]:1}/${SHOWN[0/addr_info/$i/prefixlen]} "
    done
}

# interface_check PATH: the pod's interface, of which the result speaks at that place, is there with its MAC, addresses and
# routes. SHOWN_LINK keeps what "ip -j -d addr" showed of it.
interface_check() {
    local i count address dst gateway routes=$'\n' index
    show nsenter --net="$NETNS" ip -j -d addr show dev "$CNI_IFNAME" || expect "interface $CNI_IFNAME in $CNI_NETNS" there ''
    declare -gA SHOWN_LINK=()
    for index in "${!SHOWN[@]}"; do
        SHOWN_LINK[$index]=${SHOWN[$index]}
    done
    expect "the MAC of $CNI_IFNAME" "${CONF[$1/mac]-}" "${SHOWN[0/address]-}"
    count=${SHOWN[0/flags]:-[0}
    for ((i = 0; i < ${count:1}; i++)); do
        [[ ${SHOWN[0/flags/$i]} != '"UP' ]] || break
    done
    ((i < ${count:1})) || expect "the state of $CNI_IFNAME" up down
    show_addresses
    count=${CONF[prevResult/ips]:-[0}
    for ((i = 0; i < ${count:1}; i++)); do
        address=${CONF[prevResult/ips/$i/address]:1}
        index=${CONF[prevResult/ips/$i/interface]-}
        [[ -n $index && $1 != "prevResult/interfaces/$index" ]] && continue
        [[ $SHOWN_ADDRESSES == *" $address "* ]] || expect "the address of $CNI_IFNAME" "$address" "$SHOWN_ADDRESSES"
    done
    ! show nsenter --net="$NETNS" ip -j -4 route show table all || for ((i = 0; i < ${SHOWN[.]:1}; i++)); do
        dst=${SHOWN[$i/dst]:1} gateway=${SHOWN[$i/gateway]:-\"}
        routes+="${dst/#default/0.0.0.0/0} ${gateway:1}"$'\n'
    done
    count=${CONF[prevResult/routes]:-[0}
    for ((i = 0; i < ${count:1}; i++)); do
        dst=${CONF[prevResult/routes/$i/dst]:1} gateway=${CONF[prevResult/routes/$i/gw]:-\"}
        [[ $routes == *$'\n'"${dst%/32} ${gateway:1}"* ]] ||
            expect "the route to $dst" "there${gateway:+ via ${gateway:1}}" ''
    done
}
