# shellcheck shell=bash
# shellcheck disable=SC1083,SC2004 # literal braces; subscripts of associative arrays are no arithmetic
# shellcheck disable=SC2034 # the plugins use what is set here
# shellcheck disable=SC2015 # A && B || C, where C ends the plugin and B does not fail
# What every CNI plugin here sources: JSON, the CNI environment, error answers, IPv4 arithmetic.
#
#   stdin ──> json_parse ──> CONF[ipam/ranges/0/0/subnet]='"10.244.1.0/24'
#   fail CODE FIELD... ──> {"cniVersion", "code", "msg", "details"} on stdout, exit status 1
#
# No process is started here: one jq (14 ms) costs more than a whole ADD. Nor is there a subshell: results go into
# variables named by the caller. bash needs 30 us to read a KB of this file, on every call: keep it short.

# CONF_TEXT is the configuration's text; CONF_SAME is 1 where it is known already what is in it. One who has read it, or
# knows it, sources this file with the word "begun".
[[ ${1-} == @(begun|rarely) ]] || CONF_TEXT='' CONF_SAME=''

LC_ALL=C # bytes, not characters: cheap patterns, and [a-z] means what it says

# --- the CNI frame ----------------------------------------------------------------------------------------------------
# Codes of the specification: 1 version, 2 unsupported field, 4 environment, 5 input or output, 6 no JSON,
# 7 configuration, 11 try again later, 50 no ADD can be served now (STATUS). Our own: 100 the kernel refused, 101 the state
# is not as it should be (CHECK).

# rarely FILE FUNCTION ARGUMENT...: a function from below the mark in FILE where an ordinary ADD stops reading. bash reads
# a script only as far as it gets, so what is not needed costs nothing. Functions down there may also use those of here.
rarely() {
    # shellcheck source=/dev/null
    declare -F json_dump >/dev/null || source "$CNI_JSON" rarely
    [[ -z ${CONF_SAME-} || -n ${CONF[.]-} ]] || cni_parse
    # shellcheck source=/dev/null
    declare -F "$2" >/dev/null || source "$1" rarely
    "${@:2}"
}
CNI_JSON=${BASH_SOURCE[0]}

# fail CODE WHAT [RIGHT]: WHAT names the field and its value, RIGHT says what would be right. Ends the plugin; what was
# half done is undone by its EXIT trap.
fail() { rarely "$CNI_JSON" cni_fail "$@"; }

# cni_begin: reads the configuration and checks what every command needs. Sets CONF, CONF_TEXT, CONF_VERSION, CONF_NAME;
# with CONF_SAME they are set already.
cni_begin() {
    trap 'EXIT_STATUS=$?; ((EXIT_STATUS == 0)) || rarely "$CNI_JSON" cni_unexpected' EXIT
    IP_ADDRESS=() IP_GATEWAY=() ROUTE_DST=() ROUTE_GW=() ROUTE_MORE=() DNS='{}'
    [[ ${CNI_COMMAND-} == @(ADD|DEL|CHECK) ]] || rarely "$CNI_JSON" cni_other_command
    [[ -n $CONF_SAME ]] || cni_read
    # shellcheck disable=SC2053 # a pattern
    [[ ${CNI_NETNS-}$CNI_COMMAND == @(?*ADD|*DEL|?*CHECK) && ${CNI_CONTAINERID-} == [a-zA-Z0-9]*([a-zA-Z0-9_.-]) &&
        ${CNI_IFNAME-} == $INTERFACE_NAME && ${#CNI_IFNAME} -le 15 ]] || rarely "$CNI_JSON" cni_begin_wrong
}

# what the kernel takes as an interface's name, and ip(8) as one word; at most 15 characters
INTERFACE_NAME='[a-zA-Z0-9_]*([a-zA-Z0-9_.@+-])'

# --- IPv4 -------------------------------------------------------------------------------------------------------------
# ipv4_read VARIABLE ADDRESS: as a number; status 1 when it is no IPv4 address (leading zeros are none). IPV4_WRITTEN is one
# whose IPV4_NUMBER is known.
ipv4_read() {
    [[ $2 == +([0-9]).+([0-9]).+([0-9]).+([0-9]) && .$2 != *.0[0-9]* && $2 != *[0-9][0-9][0-9][0-9]* ]] || return 1
    [[ $2 != "${IPV4_WRITTEN-}" ]] || { printf -v "$1" '%d' "$IPV4_NUMBER" && return; }
    local IFS=.
    # shellcheck disable=SC2206 # nothing but digits and dots in it
    local -a part=($2)
    ((part[0] < 256 && part[1] < 256 && part[2] < 256 && part[3] < 256)) || return 1
    printf -v "$1" '%d' $((part[0] << 24 | part[1] << 16 | part[2] << 8 | part[3]))
}

ipv4_write() {
    printf -v "$1" '%d.%d.%d.%d' $(($2 >> 24)) $(($2 >> 16 & 255)) $(($2 >> 8 & 255)) $(($2 & 255))
}

# --- the result -------------------------------------------------------------------------------------------------------
# One entry of IP_ADDRESS (with its length) and IP_GATEWAY for every address, one of ROUTE_DST, ROUTE_GW and ROUTE_MORE
# (what only version 1.1.0 has, as JSON members) for every route; DNS is JSON. IP_INTERFACE, if set, is the place in INTERFACES
# of the interface that has the addresses, else 2.
#
# cni_print_result [INTERFACES]: INTERFACES is the text of the JSON list; without it the result is an IPAM plugin's.
cni_print_result() {
    local out="{
    \"cniVersion\": \"$CONF_VERSION\",${1:+
    \"interfaces\": $1,}" i separator='
    "ips": ['
    for i in "${!IP_ADDRESS[@]}"; do
        out+="$separator
        {"
        [[ $CONF_VERSION != 0.4.0 ]] || out+='"version": "4", '
        out+="${1:+\"interface\": ${IP_INTERFACE-2}, }\"address\": \"${IP_ADDRESS[i]}\"${IP_GATEWAY[i]:+, \"gateway\": \"${IP_GATEWAY[i]}\"}}"
        separator=,
    done
    [[ $separator != , ]] || out+='
    ],'
    separator='
    "routes": ['
    for i in "${!ROUTE_DST[@]}"; do
        out+="$separator
        {\"dst\": \"${ROUTE_DST[i]}\"${ROUTE_GW[i]:+, \"gw\": \"${ROUTE_GW[i]}\"}"
        [[ $CONF_VERSION != 1.1.0 ]] || out+=${ROUTE_MORE[i]}
        out+='}' separator=,
    done
    [[ $separator != , ]] || out+='
    ],'
    printf '%s\n    "dns": %s\n}\n' "$out" "$DNS"
}

# --- not needed where the configuration is known (CONF_SAME) -----------------------------------------------------------
[[ ${1-} == rarely || -z ${CONF_SAME-} ]] || return 0

# --- JSON -------------------------------------------------------------------------------------------------------------
# json_parse ARRAY TEXT fills the associative array ARRAY, one entry for every value of the document. The index is its
# path: keys and list positions joined by "/"; "." is the whole document. In a key "~" is written ~0 and "/" ~1 (as in
# RFC 6901), and the keys that are no index in bash ("", ".", "@", "*") get a "~" in front. The first character of an
# entry is its type:  "text  12.5  true  false  null  {key/key/ (an object and its keys)  [3 (a list and its length)
# A text that is no JSON (RFC 8259) leaves status 1 and the reason in JSON_ERROR.
#
# The text is cut at its quotation marks by word splitting, which is C code in bash: pieces with even numbers lie
# between strings, those with odd numbers are strings.
json_parse() {
    local -n json_out=$1
    # "at" is the object or list that is open, "kind" its bracket, "path" where the next value goes.
    local - IFS='"' token='' string path=. at=. kind=. prefix='' length=0 state=value escapes='' i=0
    [[ $2 != *[\\$'\x01'-$'\x1f']* ]] || escapes=1
    set -f
    # shellcheck disable=SC2206 # splitting is the point; the blanks keep an empty last piece
    local -a pieces=($2'  ')
    IFS=$' \t\r\n'
    json_out=()
    while :; do
        # Between strings.
        for token in ${pieces[i]}; do
            while [[ -n $token ]]; do
                case $state$kind$token in
                    colon?:*) state=value ;;
                    'next{,'*) state=key ;;
                    'next[,'*) path=$prefix$((++length)) state=value ;;
                    value?[[{]* | first?[[{]*)
                        kind=${token:0:1} at=$path state=open
                        json_out[$path]=$kind
                        [[ $path == . ]] || prefix=$path/
                        [[ $kind == '{' ]] || json_out[$path]='[0' length=0 path=${prefix}0 state=first
                        ;;
                    'open{}'* | 'next{}'* | 'first[]'* | 'next[]'*)
                        [[ $state$kind != 'next[' ]] || json_out[$at]="[$((length + 1))"
                        path=$at state=next
                        if [[ $path == . ]]; then
                            kind=. state=end
                        else
                            [[ $path == */* ]] && at=${path%/*} prefix=${path%/*}/ || at=. prefix=''
                            kind=${json_out[$at]:0:1} length=${path##*/}
                        fi
                        ;;
                    value* | first*)
                        string=${token%%[],\}]*}
                        [[ $string == @(true|false|null) ||
                            $string =~ ^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$ ]] || break 3
                        json_out[$path]=$string token=${token#"$string"}
                        [[ $path == . ]] && state=end || state=next
                        continue
                        ;;
                    *) break 3 ;;
                esac
                token=${token:1}
            done
        done
        ((++i < ${#pieces[@]})) || break
        string=${pieces[i]}
        [[ -z $escapes || $string != *[\\$'\x01'-$'\x1f']* ]] || rarely "$CNI_JSON" json_escaped || return 1
        ((++i < ${#pieces[@]})) || { state=string && break; }
        case $state in
            value | first)
                json_out[$path]=\"$string
                [[ $path == . ]] && state=end || state=next
                ;;
            key | open)
                # The most frequent kinds of members at one go, for speed alone.
                while :; do
                    case $string in
                        '' | . | @ | '*') string='~'$string ;;
                        *[~/]*) string=${string//\~/\~0} string=${string//\//\~1} ;;
                    esac
                    path=$prefix$string
                    [[ -n ${json_out[$path]-} ]] && rarely "$CNI_JSON" json_forget "$path" || json_out[$at]+=$string/
                    case $escapes${pieces[i]-} in
                        : | ': ')
                            json_out[$path]=\"${pieces[++i]} state=next
                            [[ ${pieces[++i]-} == @(,|', ') ]] || break
                            ;;
                        :true, | ': true, ') json_out[$path]=true ;;
                        :false, | ': false, ') json_out[$path]=false ;;
                        ':{' | ': {') json_out[$path]='{' at=$path prefix=$path/ ;;
                        *) state='colon' && break ;;
                    esac
                    string=${pieces[i + 1]}
                    ((i += 2))
                done
                ((i < ${#pieces[@]})) || { state=string && break; }
                ;;
            *) token=\"$string\" && break ;;
        esac
    done
    [[ -z $token && $state == end ]] || { rarely "$CNI_JSON" json_unexpected "${token:-the end of the text}"; return 1; }
}

# --- the configuration --------------------------------------------------------------------------------------------------
# conf_get VARIABLE PATH TYPE DEFAULT: one value of the configuration; null counts as absent, as with the reference
# plugins. TYPE is string, boolean or number.
conf_get() {
    local conf_value=${CONF[$2]-}
    case $3$conf_value in
        string\"*) printf -v "$1" '%s' "${conf_value:1}" ;;
        booleantrue | booleanfalse | number[0-9-]*) printf -v "$1" '%s' "$conf_value" ;;
        *) [[ -z ${conf_value#null} ]] && printf -v "$1" '%s' "$4" || rarely "$CNI_JSON" conf_wrong "$2" "$3" "$4" ;;
    esac
}

# cni_read: fills CONF_TEXT and what is read from it.
cni_read() {
    # -N reads in blocks; other forms of read fetch a pipe byte by byte
    [[ -n $CONF_TEXT ]] || IFS= read -r -N 4194304 CONF_TEXT || :
    cni_parse
}

cni_parse() {
    CONF_NAME=
    declare -gA CONF=()
    json_parse CONF "$CONF_TEXT" || fail 6 "configuration: no JSON: $JSON_ERROR" 'one JSON object on standard input'
    conf_get CONF_NAME name string ''
    [[ ${CONF[cniVersion]-} == \"@(0.4.0|1.0.0|1.1.0) && $CONF_NAME == [a-zA-Z0-9]*([a-zA-Z0-9_.-]) ]] ||
        rarely "$CNI_JSON" cni_begin_wrong
    CONF_VERSION=${CONF[cniVersion]:1}
}

# ipv4_field VARIABLE FIELD ADDRESS: the address of a field of the configuration as a number, or an error that names it.
ipv4_field() { ipv4_read "$1" "$3" || rarely "$CNI_JSON" ipv4_wrong "$2" "$3"; }

# ipv4_network ADDRESS-VARIABLE LENGTH-VARIABLE FIELD CIDR: the address as a number (host bits are left) and the length.
ipv4_network() {
    [[ $4 == */@([0-9]|[12][0-9]|3[0-2]) ]] && ipv4_read "$1" "${4%/*}" && printf -v "$2" '%s' "${4#*/}" ||
        rarely "$CNI_JSON" ipv4_network_wrong "$3" "$4"
}

# --- rarely needed ----------------------------------------------------------------------------------------------------
# Reading stops here, unless it was "rarely" that sourced this file (or a test: "source cni-json.bash rarely").
[[ ${1-} == rarely ]] || return 0

CNI_VERSIONS=(0.4.0 1.0.0 1.1.0)

# json_escaped: of json_parse's variables, completes "string", whose piece may end with an odd number of backslashes, that is
# with \" (it goes on then), and decodes it.
json_escaped() {
    local backslashes=${string##*[!\\]}
    while ((${#backslashes} % 2)); do
        string+=\"${pieces[++i]}
        backslashes=${pieces[i]##*[!\\]}
    done
    json_unescape "$string"
}

# json_unescape TEXT: the inside of a JSON string, decoded into the caller's variable "string".
json_unescape() {
    local rest=$1 code low hex4='[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F]'
    if [[ $rest == *[$'\x01'-$'\x1f']* ]]; then
        JSON_ERROR="a control character inside the string \"$rest\"; write it as \\n, \\t or \\u00XX"
        return 1
    fi
    string=${rest%%\\*}
    rest=${rest:${#string}}
    while [[ -n $rest ]]; do
        case $rest in
            \\[\"\\/]*) string+=${rest:1:1} ;;
            \\b*) string+=$'\b' ;;
            \\f*) string+=$'\f' ;;
            \\n*) string+=$'\n' ;;
            \\r*) string+=$'\r' ;;
            \\t*) string+=$'\t' ;;
            \\u$hex4*)
                code=$((16#${rest:2:4}))
                rest=${rest:4}
                if ((code >= 0xd800 && code < 0xdc00)) && [[ $rest == ??\\u$hex4* ]]; then
                    low=$((16#${rest:4:4}))
                    if ((low >= 0xdc00 && low < 0xe000)); then
                        code=$((0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff)))
                        rest=${rest:6}
                    fi
                fi
                json_utf8 "$code" || return 1
                ;;
            *)
                code=${rest:0:2} # not half of a character
                JSON_ERROR="the escape ${code%[!\ -~]} in a string; there are \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX"
                return 1
                ;;
        esac
        rest=${rest:2}
        code=${rest%%\\*}
        string+=$code
        rest=${rest:${#code}}
    done
}

# json_utf8 CODE: appends one character to "string"; half a surrogate pair becomes U+FFFD, as with jq.
json_utf8() {
    local code=$1 byte escaped=
    local -a bytes
    ((code < 0xd800 || code > 0xdfff)) || code=0xfffd
    if ((code == 0)); then
        JSON_ERROR='\u0000 in a string; no name or path can hold it'
        return 1
    elif ((code < 0x80)); then
        bytes=(code)
    elif ((code < 0x800)); then
        bytes=('0xc0 | code >> 6' '0x80 | code & 0x3f')
    elif ((code < 0x10000)); then
        bytes=('0xe0 | code >> 12' '0x80 | code >> 6 & 0x3f' '0x80 | code & 0x3f')
    else
        bytes=('0xf0 | code >> 18' '0x80 | code >> 12 & 0x3f' '0x80 | code >> 6 & 0x3f' '0x80 | code & 0x3f')
    fi
    for byte in "${bytes[@]}"; do
        printf -v byte '\\x%02x' $((byte))
        escaped+=$byte
    done
    printf -v byte '%b' "$escaped"
    string+=$byte
}

# json_forget PATH: a key that comes twice counts as its last value, so what lies below the first must go.
json_forget() {
    local index
    local -A kept=()
    for index in "${!json_out[@]}"; do
        [[ $index == "$1"/* ]] || kept[$index]=${json_out[$index]}
    done
    json_out=()
    for index in "${!kept[@]}"; do
        json_out[$index]=${kept[$index]}
    done
}

json_unexpected() {
    JSON_ERROR="unexpected $1"
    [[ -z ${path#.} ]] || JSON_ERROR+=" at ${path//\//.}"
    case $state in
        value | first) JSON_ERROR+=', where a value should be' ;;
        open | key) JSON_ERROR+=', where a key in quotation marks should be' ;;
        colon) JSON_ERROR+=', where a colon should be' ;;
        next) JSON_ERROR+=', where a comma or a closing bracket should be' ;;
        string) JSON_ERROR+=' inside a string' ;;
        end) JSON_ERROR+=' after the end of the document' ;;
    esac
}

# json_quote VARIABLE TEXT: TEXT as a JSON string, with its quotation marks.
json_quote() {
    local quoted=$2 code character escape
    if [[ $quoted == *[\"\\$'\x01'-$'\x1f']* ]]; then
        quoted=${quoted//\\/\\\\}
        quoted=${quoted//\"/\\\"}
        quoted=${quoted//$'\n'/\\n}
        for ((code = 1; code < 32; code++)); do
            printf -v escape '\\x%02x' "$code"
            printf -v character '%b' "$escape"
            printf -v escape '\\u%04x' "$code"
            quoted=${quoted//"$character"/"$escape"}
        done
    fi
    printf -v "$1" '"%s"' "$quoted"
}

# json_dump VARIABLE ARRAY PATH: what json_parse read at PATH, as JSON text again (null when there is nothing).
json_dump() {
    local -n dump_in=$2
    local dumped=
    json_dump_value "$3"
    printf -v "$1" '%s' "$dumped"
}

json_dump_value() {
    local value=${dump_in[$1]:-null} below=$1/ separator='' key text IFS=/ restore_glob=
    [[ $1 != . ]] || below=
    case $value in
        \"*)
            json_quote text "${value:1}"
            dumped+=$text
            ;;
        '['*)
            dumped+='['
            for ((key = 0; key < ${value:1}; key++)); do
                dumped+=$separator separator=,
                json_dump_value "$below$key"
            done
            dumped+=']'
            ;;
        '{'*)
            dumped+='{'
            local -a keys
            [[ $- == *f* ]] || restore_glob=1
            set -f
            # shellcheck disable=SC2206 # the keys are joined by "/"
            keys=(${value:1})
            [[ -z $restore_glob ]] || set +f
            for key in "${keys[@]}"; do
                text=$key
                [[ $text != '~' && $text != '~'[.@*] ]] || text=${text:1}
                text=${text//\~1/\/}
                json_quote text "${text//\~0/\~}"
                dumped+=$separator$text: separator=,
                json_dump_value "$below$key"
            done
            dumped+='}'
            ;;
        *) dumped+=$value ;;
    esac
}

cni_fail() {
    local message details
    FAILED=1
    json_quote message "$2"
    json_quote details "${3-}"
    printf '{\n    "cniVersion": "%s",\n    "code": %d,\n    "msg": %s,\n    "details": %s\n}\n' \
        "${CONF_VERSION-1.1.0}" "$1" "$message" "$details"
    exit 1
}

# cni_unexpected: at an end that nobody asked for (set -e), there still has to be an error in JSON.
cni_unexpected() {
    ((EXIT_STATUS > 128)) || [[ -n ${FAILED-} ]] ||
        fail 100 "${0##*/}: $CNI_COMMAND ended in its middle, with status $EXIT_STATUS" 'see standard error'
    exit "$EXIT_STATUS"
}

# conf_wrong PATH TYPE DEFAULT
conf_wrong() {
    local value
    json_dump value CONF "$1"
    fail 7 "${1//\//.}: $value is no $2" "a $2${3:+ such as $3}"
}

# VERSION, and what is no command. GC and STATUS go on to the plugin, as the three others do.
cni_other_command() {
    local right='one of ADD, DEL, CHECK, GC, STATUS, VERSION; and the configuration on standard input'
    case ${CNI_COMMAND-} in
        '') fail 4 'CNI_COMMAND: not set' "$right" ;;
        GC | STATUS) return 0 ;;
        VERSION) ;;
        *) fail 4 "CNI_COMMAND: \"$CNI_COMMAND\" is not known here" "$right" ;;
    esac
    CONF_VERSION=1.1.0
    declare -gA CONF=()
    [[ -n $CONF_TEXT || -t 0 ]] || IFS= read -r -N 4194304 CONF_TEXT || :
    if [[ -n ${CONF_TEXT//[[:space:]]/} ]]; then
        json_parse CONF "$CONF_TEXT" || fail 6 "configuration: no JSON: $JSON_ERROR" 'one JSON object, or nothing'
        conf_get CONF_VERSION cniVersion string "$CONF_VERSION"
    fi
    cni_versions
    exit 0
}

# What cni_begin found wrong: the same conditions one by one.
cni_begin_wrong() {
    local version variable name_right='letters, digits, "_", "." and "-", first a letter or digit'
    [[ ${CONF[.]} == '{'* ]] || fail 6 'configuration: JSON, but no object' 'one JSON object on standard input'
    conf_get version cniVersion string ''
    [[ $version == @(0.4.0|1.0.0|1.1.0) ]] ||
        fail 1 "cniVersion: ${version:-none given}" "one of ${CNI_VERSIONS[*]}"
    CONF_VERSION=$version
    [[ $CONF_NAME == [a-zA-Z0-9]*([a-zA-Z0-9_.-]) ]] ||
        fail 7 "name: \"$CONF_NAME\" is no network name" "$name_right"
    if [[ $CNI_COMMAND == @(GC|STATUS) ]]; then
        [[ $CONF_VERSION == 1.1.0 ]] ||
            fail 1 "cniVersion: $CONF_VERSION has no $CNI_COMMAND" '1.1.0, the first version that has it'
        return 0 # no container is named
    fi
    for variable in CNI_CONTAINERID CNI_IFNAME CNI_NETNS; do
        [[ -n ${!variable-} || $variable$CNI_COMMAND == CNI_NETNSDEL ]] ||
            fail 4 "$variable: not set" "$CNI_COMMAND needs it"
    done
    [[ $CNI_CONTAINERID == [a-zA-Z0-9]*([a-zA-Z0-9_.-]) ]] ||
        fail 4 "CNI_CONTAINERID: \"$CNI_CONTAINERID\" is no container's name" "$name_right"
    interface_wrong CNI_IFNAME "$CNI_IFNAME" 4
}

# interface_wrong FIELD NAME CODE
interface_wrong() {
    fail "$3" "$1: \"$2\" is no interface name" 'at most 15 of letters, digits, "_", ".", "-"; such as eth0'
}

# ipv4_wrong FIELD ADDRESS
ipv4_wrong() {
    local right='an IPv4 address such as 10.244.1.1'
    [[ $2 != *:* ]] || fail 2 "${1//\//.}: \"$2\" is IPv6, which is not supported for now" "$right"
    fail 7 "${1//\//.}: \"$2\" is no IPv4 address" "$right"
}

# ipv4_network_wrong FIELD CIDR
ipv4_network_wrong() {
    local right='an IPv4 network such as 10.244.1.0/24'
    [[ $2 != *:* ]] || fail 2 "${1//\//.}: \"$2\" is IPv6, which is not supported for now" "$right"
    [[ $2 != *\$* ]] ||
        fail 7 "${1//\//.}: \"$2\" still is a placeholder, which mininetes replaces for each node" "$right"
    fail 7 "${1//\//.}: \"$2\" is no IPv4 network" "$right"
}

# cni_valid_attachments: for GC, the keys of VALID get the attachments that the runtime knows ("CONTAINER/INTERFACE", and
# "CONTAINER" for what belongs to a container as a whole). Without the list everything would go, so it has to be there.
cni_valid_attachments() {
    local i at=cni.dev~1valid-attachments count container
    declare -gA VALID=()
    count=${CONF[$at]-}
    [[ $count == '['* ]] || fail 7 'cni.dev/valid-attachments: no list' '[{"containerID": "web-1", "ifname": "eth0"}], or []'
    for ((i = 0; i < ${count:1}; i++)); do
        container=${CONF[$at/$i/containerID]-}
        [[ $container == '"'?* && ${CONF[$at/$i/ifname]-} == '"'?* ]] ||
            fail 7 "cni.dev/valid-attachments.$i: no containerID, or no ifname" '{"containerID": "web-1", "ifname": "eth0"}'
        VALID[${container:1}]=1
        VALID[${container:1}/${CONF[$at/$i/ifname]:1}]=1
    done
}

cni_versions() {
    local version list=
    for version in "${CNI_VERSIONS[@]}"; do
        list+=${list:+, }\"$version\"
    done
    json_quote version "$CONF_VERSION"
    printf '{\n    "cniVersion": %s,\n    "supportedVersions": [%s]\n}\n' "$version" "$list"
}

# cni_args VARIABLE KEY: the value of KEY in CNI_ARGS ("KEY=VALUE;..."), empty when it is not there.
cni_args() {
    local pair rest=${CNI_ARGS-}\; unknown='' ignore='' found=
    while [[ -n $rest ]]; do
        pair=${rest%%;*} rest=${rest#*;}
        case $pair in
            '') ;;
            "$2"=*) found=${pair#*=} ;;
            IgnoreUnknown=[1tT]*) ignore=1 ;;
            IgnoreUnknown=* | IP=* | MAC=* | K8S_*=*) ;;
            *) unknown=$pair ;;
        esac
    done
    [[ -z $unknown || -n $ignore ]] ||
        fail 4 "CNI_ARGS: \"$unknown\" is not known" 'IP=ADDRESS; for others to be ignored, also IgnoreUnknown=1'
    printf -v "$1" '%s' "$found"
}

# result_read ARRAY PREFIX CODE: takes ips, routes and dns from JSON that json_parse read: another IPAM plugin's result
# (PREFIX empty), or the routes of a configuration (PREFIX "ipam/").
result_read() {
    local -n read_from=$1
    local i key at value more count
    count=${read_from[${2}ips]:-[0}
    for ((i = 0; i < ${count:1}; i++)); do
        at=${2}ips/$i
        ipv4_network value value "$at/address" "${read_from[$at/address]:1}"
        IP_ADDRESS+=("${read_from[$at/address]:1}")
        value=${read_from[$at/gateway]:-null}
        [[ $value == null ]] || ipv4_field more "$at/gateway" "${value:1}"
        [[ $value == null ]] && IP_GATEWAY+=('') || IP_GATEWAY+=("${value:1}")
    done
    count=${read_from[${2}routes]:-[0}
    for ((i = 0; i < ${count:1}; i++)); do
        at=${2}routes/$i
        value=${read_from[$at/dst]:-null}
        ipv4_network more more "$at/dst" "${value:1}"
        ROUTE_DST+=("${value:1}")
        value=${read_from[$at/gw]:-null}
        [[ $value == null ]] || ipv4_field more "$at/gw" "${value:1}"
        [[ $value == null ]] && ROUTE_GW+=('') || ROUTE_GW+=("${value:1}")
        more=
        for key in mtu advmss priority table scope; do
            value=${read_from[$at/$key]:-null}
            [[ $value == null ]] && continue
            [[ $value != *[!0-9]* ]] || fail 7 "${at//\//.}.$key: ${value#\"} is no whole number" 'a number such as 1400'
            more+=", \"$key\": $value"
        done
        ROUTE_MORE+=("$more")
    done
    [[ ${read_from[${2}dns]-} != {?* ]] || json_dump DNS "$1" "${2}dns"
}
