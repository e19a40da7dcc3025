#!/usr/bin/env bash
# Separate a set of tracks with several samplers and score them against their true stems.
#
# Stages: 0 make the data; 1 stem folders and mixtures; 2 train, convert or open the prior, write the
# baselines; 3 separate; 4 score; 5 report. Each goes on where it stopped, and does nothing when it
# is done. Tracks come from a data recipe, from --source, a data set as it is published, or from
# --reference, any folder of stems <track>/<stem>.wav.
#
# Stage 3 may run in many processes at a time, on machines that share the folder EXP: each of them
# with --shard I/N, or by torchrun, or by srun, or in a Slurm array (recipes/separate.sbatch). Run the
# stages 0 to 2 once before, then
#     torchrun --nproc-per-node 8 --no-python bash recipes/separate.sh --stage 3 ...
# Who ends last also scores and reports; run again, any of them does what is missing of its share.
# On a cluster of Ray one process hands out the tracks: --executor ray (recipes/docs/clusters.md).
set -euo pipefail

data=                # data recipe: a folder with a run.sh
data_options=        # options of its run.sh
split=test           # which of its splits to separate
source=              # data set to prepare instead, see form
form=slakh           # form of data and source, for mgdm-audio prepare: slakh, or "stems --map NAME_OR_TOML"
reference=           # folder of true stems to use instead
statistics=          # training stems for the static Wiener split; empty: the prior's own levels
name=                # name of the set of tracks; empty: that of the folder of stems
exp=exp              # folder for mixtures, estimates and scores, in EXP/NAME
prior=mini-slakh-v3  # bundled prior or prior folder
checkpoint=          # MSDM's weights to convert to a prior instead: FILE, or "STEM=FILE STEM=FILE ..."
conf=                # TOML file of a training run instead, on the splits train and validation
samplers=default     # presets or TOML files, separated by spaces
level=rms            # rms: mixtures are brought to the level of the prior's training; none: as is
format=wav           # of the estimates: wav (32-bit float), flac, mp3, m4a or ogg
presets=             # folder of further presets, NAME.toml
device=auto          # auto, cpu, cuda, mps
shard=               # I/N: separate the I-th of N shares; empty: torchrun's, Slurm's, or all
nj=1                 # tracks at a time
executor=local       # or a cluster: ray[://HOST:PORT][,workers=N][,cpus=N][,gpus=N]
results=             # Markdown file that holds the table, see score.sh
venv=${VENV:-.venv}  # virtual environment, or none
stage=0              # first stage
stop_stage=5         # last stage
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
. "$(dirname "$0")/data.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"
[[ -n $data || -n $source || -n $reference ]] || fail "give --reference, --source or --data"
[[ -n $prior || -n $checkpoint || -n $conf ]] ||
    fail "give --prior, a folder with a prior of these stems, or --checkpoint, weights to convert"
[[ -z $conf || -f $conf ]] || fail "$conf: no such file; give a training run's TOML file"
[[ " wav flac mp3 m4a ogg " == *" $format "* ]] ||
    fail "--format $format: the estimates are wav, flac, mp3, m4a or ogg"
if [[ -n $reference ]]; then
    [[ -d $reference ]] || fail "$reference: no such folder"
    data= source= reference=$(cd "$reference" && pwd)
elif [[ -n $source ]]; then
    [[ -d $source ]] || fail "$source: no such folder; give that of the data set"
    data= stems=$exp/stems reference=$exp/stems/$split
else
    stems=$data/out/stems reference=$data/out/stems/$split
fi
if [[ -n $checkpoint ]]; then # a path may hold spaces, several are words
    if [[ -f $checkpoint || $checkpoint != *=* ]]; then
        checkpoints=("$checkpoint") converted=$(basename "${checkpoint%.*}")
    else
        read -ra checkpoints <<<"$checkpoint" && converted=isdm
    fi
    for file in "${checkpoints[@]}"; do
        [[ -f $file || -f ${file#*=} ]] || fail "$file: no such file; give MSDM's weights"
    done
    prior=$exp/priors/$converted
elif [[ -n $conf ]]; then
    [[ -n $data$source ]] || fail "--conf: needs --data or --source to train on"
    prior=$exp/training/prior
fi
extras=(${conf:+train})
[[ $executor == local ]] || extras+=(cluster)
[[ -z $data$source ]] || extras+=(data)
[[ $format != m4a ]] || extras+=(formats)
environment ${extras[@]+"${extras[@]}"}
experiments=$exp exp=$exp/${name:=$(basename "$reference")}
scripts=$root/recipes/local
shard=$(python "$scripts/shard.py" "$shard")
share=${shard#1/1}
[[ -z $share ]] || ((stage >= 3)) ||
    fail "shard $share: run the stages 0 to 2 once before, and then the shards with --stage 3"

prepare_source() { # SPLITS
    # shellcheck disable=SC2086 # $form are words
    mgdm-audio prepare $form "$source" -o "$stems" --splits "$1" --nj "$nj" --executor "$executor"
}

each_sampler() { # COMMAND...: with what all scripts want to know, sampler by sampler
    local sampler system
    for sampler in $samplers; do
        [[ -z $presets || ! -f $presets/$sampler.toml ]] || sampler=$presets/$sampler.toml
        system=$(basename "$sampler" .toml)
        "$@" "$exp/mixtures" "$exp/estimates/$system" --prior "$prior" --sampler "$sampler" \
            --level "$level" --format "$format" || return 1
    done
}

if at_stage 0 "data" && [[ -n $data ]]; then
    make_data
fi

if at_stage 1 "stem folders and mixtures"; then
    [[ -z $data ]] || make_stems "$split"
    [[ -z $source ]] || prepare_source "$split"
    python "$scripts/mixtures.py" "$reference" "$exp/mixtures"
fi

if at_stage 2 "prior and baselines"; then
    if [[ -n $checkpoint ]]; then
        for file in "${checkpoints[@]}"; do
            [[ ! -d $prior || ! $file -nt $prior && ! ${file#*=} -nt $prior ]] ||
                fail "$prior: is older than $file, which it was made of; remove it"
        done
        [[ -d $prior ]] || mgdm-audio priors convert "${checkpoints[@]}" -o "$prior"
    elif [[ -n $conf ]]; then
        if [[ -n $source ]]; then
            prepare_source train,validation
        else
            make_stems train && make_stems validation
        fi
        bash "$root/recipes/train_prior.sh" --venv none --stems "$stems" --conf "$conf" \
            --exp "$experiments/training" --stop-stage 2
    fi
    python "$scripts/baselines.py" "$reference" "$exp/mixtures" "$exp/estimates" --prior "$prior" \
        ${statistics:+--statistics "$statistics"}
fi

if at_stage 3 "separate${share:+, share $share}"; then
    cores=$(getconf _NPROCESSORS_ONLN)
    ((nj == 1)) || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > nj ? cores / nj : 1))}
    if [[ -n ${LOCAL_RANK:-} && $device == auto ]]; then # of torchrun: a GPU for each process
        IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES:-}"
        export CUDA_VISIBLE_DEVICES=${gpus[LOCAL_RANK]:-$LOCAL_RANK}
    fi
    each_sampler python "$scripts/separate.py" --device "$device" --shard "$shard" --nj "$nj" \
        --executor "$executor"
fi

if ((stop_stage >= 4 && stage <= 4)) && ! missing=$(each_sampler python "$scripts/pending.py" 2>&1); then
    [[ -n $share ]] || fail "${missing#error: }"
    echo "share $share is separated; who ends last also scores (${missing#error: })"
    exit
fi

score=(bash "$root/recipes/score.sh" --venv none --reference "$reference" --exp "$exp")
if at_stage 4 "score"; then
    "${score[@]}" --nj "$nj" --executor "$executor" --stage 0 --stop-stage 0
fi

if at_stage 5 "report"; then
    "${score[@]}" --stage 1 --stop-stage 1 --name "$name" --results "$results"
fi
