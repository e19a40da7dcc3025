# Sourced after parse_options.sh. "environment EXTRA..." puts a virtual environment that holds the
# package with these extras first on the PATH. $venv says which: a folder, relative to the
# repository, made if it is missing; or "none", the Python on the PATH as it is. $PYTHON, if set, is
# the interpreter to make it with. Nothing is installed twice.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

_find_python() { # print the first Python that is new enough and can make virtual environments
    if [[ -n ${PYTHON:-} ]]; then set -- "$PYTHON"; else set -- python3 python3.{13,12,11,14} python; fi
    local name
    for name; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    fail "no Python >= 3.11 with its venv module (tried $*); install one, or name it: PYTHON=/path/to/python3"
}

_make_venv() {
    local python said clear=()
    python=$(_find_python) || exit 2
    [[ ! -e $venv/pyvenv.cfg ]] || clear=(--clear) # a broken one; any other folder keeps its files
    echo "making $venv with $python"
    said=$("$python" -m venv ${clear[@]+"${clear[@]}"} "$venv" 2>&1) ||
        fail "$venv: no virtual environment could be made (${said##*$'\n'})"
}

_install() { # EXTRAS
    local log=$venv/install.log why
    echo "installing mgdm_audio${1:+[$1]} into $venv (minutes at first; log: $log)"
    if ! (cd "$root" && python -m pip install --no-input --editable ".${1:+[$1]}") >"$log" 2>&1; then
        why=$(grep -E '^ *(ERROR|[A-Za-z.]*Error): ' "$log" || grep -i '^error' "$log" || cat "$log")
        why=$(tail -n 1 <<<"$why" | sed 's/^ *//')
        fail "pip could not install mgdm_audio: ${why:-no message}; see $log"
    fi
}

environment() {
    [[ $venv != none ]] || return 0
    case $venv in /*) ;; *) venv=$root/$venv ;; esac
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || _make_venv
    export PATH="$venv/bin:$PATH"
    local extras stamp wanted other
    extras=$(tr ' ' , <<<"$*")
    stamp=$venv/installed-$extras
    wanted=$(echo "$root" && cat "$root/pyproject.toml")
    for other in "$venv"/installed-*; do # of another repository, or before a change of this one
        [[ ! -f $other || $(cat "$other") == "$wanted" ]] || rm "$other"
    done
    [[ ! -f $stamp ]] || return 0
    _install "$extras"
    echo "$wanted" >"$stamp"
}
