#!/usr/bin/env bash
# Training songs of five stems (README.md, "Songs of five stems"): every second one is played by MMA,
# guitars have amplifiers, half of the songs have other instruments or a voice; and real guitars.
# Writes OUT/train and OUT/guitar_test. A run that was stopped goes on where it was.
# Options: --out DIR --count N (songs) --first SEED --nj N --stage S (0 packages and real guitars,
# 1 songs) --soundfonts DIR --python PYTHON. Folders are relative to this one.
set -euo pipefail
cd "$(dirname "$0")"

out=out_v3 count=600 first=40000 nj=1 stage=0 soundfonts=soundfonts python=${PYTHON:-python}
while (($#)); do
    case $1 in
        --out | --count | --first | --nj | --stage | --soundfonts | --python) ;;
        *) echo "error: unknown option $1 (see $0)" >&2 && exit 2 ;;
    esac
    (($# >= 2)) || { echo "error: $1 needs a value" >&2; exit 2; }
    declare "${1#--}=$2" && shift 2
done

if ((stage <= 0)); then
    bash run.sh --stop_stage 0 --sampled true --python "$python"
    "$python" local/fetch_programs.py packages/debian
    "$python" local/fretsonfire.py --train "$out/train" --test "$out/guitar_test"
fi

# MuseScore General's guitars and basses are FluidR3's: only its other instruments are taken.
choice=(--soundfont "$soundfonts/FluidR3_GM.sf2" --drum-soundfont "$soundfonts/FluidR3_GM.sf2")
for name in Black_Pearl_4_LV2 Red_Zeppelin_4_LV2; do
    choice+=(--drum-soundfont "$soundfonts/$name.sf2")
done
for class in piano drums other; do
    choice+=(--class-soundfont "$class=$soundfonts/MuseScore_General_Full.sf2")
done
for font in "$soundfonts"/{bass,drums,guitar,piano}_*.sf2; do
    name=${font##*/} && choice+=(--class-soundfont "${name%%_*}=$font")
done

block=50  # songs, so that none waits for all of MMA's
for ((from = first; from < first + count; from += block)); do
    songs=$((first + count - from < block ? first + count - from : block))
    "$python" local/compose_mma.py "$out/midi" --first "$from" --count "$songs" --step 2
    "$python" local/render.py "$out" --form stems --split train --first "$from" --count "$songs" \
        --nj "$nj" --patches slakh --vary 0.35 --pitch 4 --amps 0.6 --midi "$out/midi" \
        --other 0.5 --sung 0.4 "${choice[@]}"
done
