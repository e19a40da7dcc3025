"""Separate this process's share of a folder of mixtures, those that are not separated yet.

    python separate.py MIXTURES ESTIMATES --prior PRIOR --sampler SAMPLER \\
        [--level none] [--format flac] [--shard I/N] [--nj 2]

writes ESTIMATES/<track>/<stem>.wav in 32-bit float, or files of another format, as
`mgdm-audio separate` would. The seed is the
number in the track's name, 2098 for Track02098, so that no result depends on who computes it. A
track that fails stops no other.
"""

from functools import cache, partial
from pathlib import Path

from pending import find_pending, parser
from script import run

from mgdm_audio.audio.encoding.formats import FormatName, find_format
from mgdm_audio.engine.processes import run_jobs
from mgdm_audio.engine.sharding import find_shard
from mgdm_audio.errors import UserError, recorded
from mgdm_audio.evaluation.folders import track_number
from mgdm_audio.separation.separator import Separator


@cache
def separator(prior: str, sampler: str, level: str, device: str) -> Separator:
    """Opened once a process."""
    return Separator.from_pretrained(prior, sampler, level=level, device=device)


def separate(
    mixture: Path,
    estimate: Path,
    prior: str,
    sampler: str,
    level: str,
    device: str,
    form: FormatName,
) -> str:
    """Write the folder ``estimate`` whole or not at all; returns why not, or nothing."""
    try:
        found = separator(prior, sampler, level, device)
        result = found.separate(mixture, seed=track_number(mixture.stem))
        record = result.save(estimate, "FLOAT" if form == "wav" else None, format=form)
    except Exception as error:  # a bug that one track meets is no reason to lose the others
        return recorded(error, estimate.parent, mixture)
    print(f"{estimate}: {record['seconds']:.1f} s on {found.device}", flush=True)
    return ""


def main() -> None:
    options = parser()
    options.add_argument("--device", default="auto")
    options.add_argument("--shard", default="1/1")
    options.add_argument("--nj", type=int, default=1, help="tracks at a time")
    chosen = options.parse_args()
    find_format(chosen.format).require(None)
    pending = find_pending(
        chosen.mixtures,
        chosen.estimates,
        chosen.prior,
        chosen.sampler,
        chosen.level,
        chosen.format,
    )
    # Of all tracks, and not of those that are pending: other processes change these meanwhile.
    share = find_shard(chosen.shard, {}).of(path.stem for path in chosen.mixtures.glob("[!.]*.wav"))
    jobs = {
        track: partial(
            separate,
            pending[track],
            chosen.estimates / track,
            chosen.prior,
            chosen.sampler,
            chosen.level,
            chosen.device,
            chosen.format,
        )
        for track in share
        if track in pending
    }
    failures = [why for _, why in run_jobs(jobs, chosen.nj) if why] if jobs else []
    for why in failures:
        print(f"error: {why}")
    if failures:
        raise UserError(
            f"{chosen.estimates}: {len(failures)} of {len(share)} tracks failed, see above; "
            "the same command tries these again"
        )


if __name__ == "__main__":
    run(main)
