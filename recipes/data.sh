# Sourced by the recipes that begin with a data recipe, $data: a folder whose run.sh makes
# out/<split>/<track>, and whose local/stems.py turns a split into a folder of stems.

make_data() { # unless the same call has succeeded before
    local done_before
    done_before=$data/out/.made-$(cksum <<<"$data_options" | cut -d ' ' -f 1)
    [[ ! -f $done_before ]] || return 0
    # shellcheck disable=SC2086 # $data_options are words
    PYTHON=python bash "$data/run.sh" --nj "$nj" $data_options
    touch "$done_before"
}

make_stems() { # SPLIT
    python "$data/local/stems.py" "$data/out/$1" "$data/out/stems/$1" --nj "$nj"
}
