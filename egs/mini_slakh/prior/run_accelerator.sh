#!/usr/bin/env bash
# Train a prior like mini-slakh-v2: eight minutes of an H100 with 16 processor cores, which go on
# rendering new songs meanwhile. Options: --nj N (rendering processes), --seconds S (of training), --out DIR,
# --init PRIOR (to start from: the name of a bundled one, or a folder), --set "KEY=VALUE ..." (changes
# to conf/tf_unet_large.toml). The prior is in OUT/run/prior. Folders are relative to this one.
set -euo pipefail
cd "$(dirname "$0")"

nj=14 seconds=470 out=exp/accelerator init='' set='' python=${PYTHON:-python}
while (($#)); do
    case $1 in
        --nj | --seconds | --out | --init | --set | --python) ;;
        *) echo "error: unknown option $1 (see $0)" >&2 && exit 2 ;;
    esac
    (($# >= 2)) || { echo "error: $1 needs a value" >&2; exit 2; }
    declare "${1#--}=$2" && shift 2
done

mkdir -p "$out" && out=$(cd "$out" && pwd)
fonts=../data/soundfonts
bash ../data/run.sh --stop_stage 1 --train 0 --validation 12 --test 0 --sampled true --form stems \
    --out "$out" --nj "$nj" --python "$python"

# FM synthesis and each set of recordings weigh the same. MuseScore General's guitars and basses are
# FluidR3's: only its pianos and drums are taken.
choice=()
for name in FluidR3_GM OPL-3_FM_128M; do
    choice+=(--soundfont "$fonts/$name.sf2" --drum-soundfont "$fonts/$name.sf2")
done
for name in Black_Pearl_4_LV2 Red_Zeppelin_4_LV2; do choice+=(--drum-soundfont "$fonts/$name.sf2"); done
for class in piano drums; do
    choice+=(--class-soundfont "$class=$fonts/MuseScore_General_Full.sf2")
done
for font in "$fonts"/{bass,drums,guitar,piano}_*.sf2; do
    name=${font##*/} && choice+=(--class-soundfont "${name%%_*}=$font")
done

nice -n 10 "$python" ../data/local/render.py "$out" --form stems --split train --count 12000 --nj "$nj" \
    --vary 0.6 --pitch 4 "${choice[@]}" &
renderer=$!
trap 'kill $renderer 2>/dev/null || true' EXIT
until (($(find "$out/train" -mindepth 1 -maxdepth 1 -name 'Track*' 2>/dev/null | wc -l) >= 60)); do
    kill -0 $renderer
    sleep 1
done

changes=(--set "data.train=$out/train" --set "data.validation=$out/validation" --set "schedule.seconds=$seconds")
for change in $set; do changes+=(--set "$change"); done
if [[ -n $init ]]; then changes+=(--init "$init"); fi
"$python" -m mgdm_audio.cli.main train conf/tf_unet_large.toml -o "$out/run" "${changes[@]}"
