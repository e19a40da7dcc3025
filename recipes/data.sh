# Sourced by the recipes that begin with a data recipe, $data: a folder whose run.sh makes
# out/<split>/<track> in the form of Slakh2100, or in $form, see separate.sh.

make_data() { # unless the same call has succeeded before
    local done_before
    done_before=$data/out/.made-$(cksum <<<"$data_options" | cut -d ' ' -f 1)
    [[ ! -f $done_before ]] || return 0
    # shellcheck disable=SC2086 # $data_options are words
    PYTHON=python bash "$data/run.sh" --nj "$nj" $data_options
    touch "$done_before"
}

make_stems() { # SPLIT, into out/stems/<split>; as WAV: training reads from anywhere in a file
    # shellcheck disable=SC2086 # $form are words
    mgdm-audio prepare ${form:-slakh} "$data/out" -o "$data/out/stems" --splits "$1" --format wav --nj "$nj" \
        --executor "${executor:-local}"
}
