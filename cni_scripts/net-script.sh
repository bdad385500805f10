#!/bin/bash
# shellcheck disable=SC1083,SC2034 # literal braces; cni-json.bash's variables
# net-script.sh: connects a network namespace to this node's pod network by hand, as the kubelet does it for a pod.
#
#    ip netns add web                       the "pod"
#    net-script.sh add web-1 web            ── calls ──> /opt/cni/bin/PLUGIN   (CNI_COMMAND=ADD, configuration on stdin)
#    ip netns exec web ip address                        for each plugin of the first file in /etc/cni/net.d
#    net-script.sh del web-1 web            ── calls ──> the same with DEL, the last plugin first
#
# usage: net-script.sh add|del CONTAINER NAMESPACE
#   CONTAINER   any name; together with eth0 it says whose address it is
#   NAMESPACE   a name below /run/netns, or a path such as /proc/PID/ns/net
# Environment: NET_CONF_DIR (/etc/cni/net.d), CNI_PATH (/opt/cni/bin), CNI_IFNAME (eth0), CNI_ARGS.
# Exit status: 0 done, 1 a plugin failed, 2 wrong usage or configuration.

set -euo pipefail
NET_SCRIPT=${BASH_SOURCE[0]}
[[ -e ${NET_SCRIPT%/*}/cni-json.bash ]] || NET_SCRIPT=$(readlink -f -- "$0")
CONF_TEXT='' CONF_SAME=''
# shellcheck source-path=SCRIPTDIR source=cni-json.bash
source "${NET_SCRIPT%/*}/cni-json.bash" rarely

wrong() {
    printf 'net-script.sh: %s\n' "$@" >&2
    exit 2
}

usage() {
    wrong "$1" 'usage: net-script.sh add|del CONTAINER NAMESPACE' \
        '  for example: ip netns add web; net-script.sh add web-1 web'
}

# find_configuration: the file that the kubelet's runtime would take, the first by name.
find_configuration() {
    local file
    for file in "$NET_CONF_DIR"/*; do
        [[ -f $file && $file == *.@(conf|conflist|json) ]] || continue
        CONF_FILE=$file
        return 0
    done
    wrong "NET_CONF_DIR: no .conf, .conflist or .json in $NET_CONF_DIR" 'set NET_CONF_DIR, or put a configuration there'
}

# read_configuration: PLUGINS gets the paths of the plugins' parts in CONF.
read_configuration() {
    local text count i
    text=$(<"$CONF_FILE")
    json_parse CONF "$text" || wrong "$CONF_FILE: no JSON: $JSON_ERROR"
    [[ ${CONF[name]-} == '"'?* ]] || wrong "$CONF_FILE: name is missing" 'a configuration has a name'
    PLUGINS=()
    count=${CONF[plugins]:-[0}
    for ((i = 0; i < ${count:1}; i++)); do
        PLUGINS+=("plugins/$i")
    done
    # a .conf is one plugin
    ((${#PLUGINS[@]})) || PLUGINS=(.)
    for i in "${PLUGINS[@]}"; do
        [[ $i != . ]] && i=$i/type || i='type'
        [[ ${CONF[$i]-} == '"'?* ]] || wrong "$CONF_FILE: ${i//\//.} is missing" 'the name of a plugin'
        find_plugin "${CONF[$i]:1}" >/dev/null
    done
}

# find_plugin TYPE: prints the path of the executable.
find_plugin() {
    local folder
    local -a folders
    IFS=: read -ra folders <<<"$CNI_PATH"
    for folder in "${folders[@]}"; do
        [[ -f $folder/$1 && -x $folder/$1 ]] || continue
        printf '%s' "$folder/$1"
        return 0
    done
    wrong "CNI_PATH: no plugin \"$1\" in $CNI_PATH (asked for in $CONF_FILE)" 'set CNI_PATH'
}

# call PLUGIN-PATH: runs one plugin with its part of the configuration; its answer goes into ANSWER.
call() {
    local part version name plugin type=$1/type
    [[ $1 != . ]] || type='type'
    json_dump part CONF "$1"
    json_dump version CONF cniVersion
    json_dump name CONF name
    part="{\"cniVersion\": $version, \"name\": $name,${part#\{}"
    [[ -z $PREVIOUS ]] || part="${part%\}}, \"prevResult\": $PREVIOUS}"
    plugin=$(find_plugin "${CONF[$type]:1}")
    ANSWER=$(exec "$plugin" <<<"$part") || failed "${CONF[$type]:1}"
}

# failed TYPE: says in words what the plugin said in JSON, and takes back what the plugins before it did.
failed() {
    local i
    local -A error=()
    json_parse error "$ANSWER" || error=()
    i=${error[msg]-} i=${i#\"}
    printf 'net-script.sh: %s %s failed: %s\n' "$1" "$CNI_COMMAND" "${i:-no reason given}" >&2
    [[ ${error[details]-} != '"'?* ]] || printf '  right would be: %s\n' "${error[details]:1}" >&2
    if [[ $CNI_COMMAND == ADD ]]; then
        CNI_COMMAND=DEL
        for ((i = ${#DONE[@]} - 1; i >= 0; i--)); do
            call "${DONE[i]}"
        done
    fi
    exit 1
}

add() {
    local i address='' route=''
    local -A result=()
    PREVIOUS='' DONE=()
    # libcni's rule: what one plugin gives is the next one's prevResult
    for i in "${PLUGINS[@]}"; do
        call "$i"
        PREVIOUS=$ANSWER DONE+=("$i")
    done
    keep_result
    # the runtime brings lo up, plugins do not
    nsenter --net="$CNI_NETNS" ip link set lo up
    json_parse result "$PREVIOUS" || wrong "the last plugin gave no JSON: $JSON_ERROR"
    for ((i = 0; ; i++)); do
        [[ -n ${result[ips/$i/address]-} ]] || break
        address+=${address:+, }${result[ips/$i/address]:1}
    done
    for ((i = 0; ; i++)); do
        [[ -n ${result[routes/$i/dst]-} ]] || break
        route+="${route:+, }${result[routes/$i/dst]:1}${result[routes/$i/gw]:+ via ${result[routes/$i/gw]:1}}"
    done
    printf '%s\n' "container   $CNI_CONTAINERID" "namespace   $CNI_NETNS" "interface   $CNI_IFNAME" \
        "address     ${address:-none}" "routes      ${route:-none}" "network     ${CONF[name]:1} ($CONF_FILE)"
}

# keep_result: as libcni does, so that the node's runtime knows of the container, and leaves it alone.
keep_result() {
    local netns pair key value args=
    json_quote netns "$CNI_NETNS"
    local -a pairs
    IFS=\; read -ra pairs <<<"${CNI_ARGS-}"
    for pair in "${pairs[@]}"; do
        json_quote key "${pair%%=*}"
        json_quote value "${pair#*=}"
        args+="${args:+, }[$key, $value]"
    done
    mkdir -p -- "${CACHE%/*}"
    {
        printf '{"kind": "cniCacheV1", "containerId": "%s", "ifName": "%s", "networkName": "%s", ' \
            "$CNI_CONTAINERID" "$CNI_IFNAME" "${CONF[name]:1}"
        printf '"config": "%s", "netns": %s, "cniArgs": [%s], "result": %s}\n' \
            "$(base64 -w 0 <"$CONF_FILE")" "$netns" "$args" "$PREVIOUS"
    } >"$CACHE"
}

del() {
    local i
    local -A kept=()
    PREVIOUS=
    [[ ! -e $CACHE ]] || { json_parse kept "$(<"$CACHE")" && json_dump PREVIOUS kept result; } || PREVIOUS=
    [[ $PREVIOUS != null ]] || PREVIOUS=
    for ((i = ${#PLUGINS[@]} - 1; i >= 0; i--)); do
        call "${PLUGINS[i]}"
    done
    rm -f -- "$CACHE"
    printf '%s\n' "container   $CNI_CONTAINERID is no longer in network ${CONF[name]:1}"
}

main() {
    [[ $# == 3 ]] || usage "$# arguments, there should be 3"
    [[ $1 == add || $1 == del ]] || usage "\"$1\": add or del"
    [[ $2 == [a-zA-Z0-9]*([a-zA-Z0-9_.-]) ]] || usage "CONTAINER \"$2\": letters, digits, \"_\", \".\" and \"-\""
    NET_CONF_DIR=${NET_CONF_DIR:-/etc/cni/net.d}
    export CNI_PATH=${CNI_PATH:-/opt/cni/bin} CNI_IFNAME=${CNI_IFNAME:-eth0} CNI_CONTAINERID=$2 CNI_NETNS=$3
    [[ $3 == */* ]] || CNI_NETNS=/run/netns/$3
    export CNI_COMMAND=${1^^}
    [[ $1 == del || -e $CNI_NETNS ]] || usage "NAMESPACE \"$3\": there is no $CNI_NETNS; \"ip netns add $3\" makes it"
    declare -gA CONF=()
    find_configuration
    read_configuration
    CACHE=/var/lib/cni/results/${CONF[name]:1}-$CNI_CONTAINERID-$CNI_IFNAME
    "$1"
}

main "$@"
