# Sourced by the recipes: the variables on top of the calling script become its options.
#
#     nj=2  # tracks at a time
#     . "$(dirname "$0")/parse_options.sh"
#
# makes --nj 4 and --nj=4 set nj. A variable counts if a comment follows it on its line; where the
# default is a whole number, so is every value. An underscore may be typed as a dash. What is no
# option stays in "$@", and what follows "--" is taken as it is. --help prints the comment on top of
# the script, then the options with their values. Works with bash 3.2, which macOS has.

fail() { # one clear line, and out
    echo "error: $*" >&2
    exit 2
}

at_stage() { # NUMBER TITLE: is this stage asked for?
    ((stage <= $1 && stop_stage >= $1)) || return 1
    echo "${_script##*/}, stage $1: $2"
}

_script=${BASH_SOURCE[1]}
_names=" $(sed -n '/parse_options\.sh"$/q; s/^\([a-z][a-z_]*\)=.*# .*/\1/p' "$_script" | tr '\n' ' ') "

_print_help() {
    sed -n '2,$ { /^#/!q; s/^# \{0,1\}//; p; }' "$_script"
    echo
    local name comment
    for name in $_names; do
        comment=$(sed -n "s/^$name=[^#]*# //p" "$_script" | head -n 1)
        printf '  --%-15s %s [%s]\n' "$(tr _ - <<<"$name")" "$comment" "${!name}"
    done
}

_set_option() { # TYPED NAME VALUE
    case ${!2} in
        '' | *[!0-9]*) ;;
        *) [[ $3 =~ ^(0|[1-9][0-9]{0,8})$ ]] || fail "$1 is a whole number, not '$3'" ;;
    esac
    printf -v "$2" %s "$3"
}

_rest=()
while (($#)); do
    case $1 in
        -h | --help) _print_help && exit 0 ;;
        --) shift && _rest+=("$@") && break ;;
        -?*)
            _typed=${1%%=*}
            _name=$(sed 's/^--//; s/-/_/g' <<<"$_typed")
            [[ $_typed == --?* && $_names == *" $_name "* ]] ||
                fail "unknown option $_typed; bash $_script --help lists the options"
            if [[ $1 == *=* ]]; then
                _set_option "$_typed" "$_name" "${1#*=}"
            else
                (($# >= 2)) || fail "$_typed needs a value"
                _set_option "$_typed" "$_name" "$2" && shift
            fi
            shift
            ;;
        *) _rest+=("$1") && shift ;;
    esac
done
set -- ${_rest[@]+"${_rest[@]}"} # for the calling script too, as this one is sourced
