"""Separate this process's share of a folder of mixtures, those that are not separated yet.

    python separate.py MIXTURES ESTIMATES --prior PRIOR --sampler SAMPLER \\
        [--level none] [--format flac] [--shard I/N] [--nj 2] [--executor ray]

writes ESTIMATES/<track>/<stem>.wav in 32-bit float, or files of another format, as
`mgdm-audio separate` would. The seed is the
number in the track's name, 2098 for Track02098, so that no result depends on who computes it. A
track that fails stops no other.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pending import find_pending, parser
from script import run

from mgdm_audio.audio.encoding.formats import FormatName, find_format
from mgdm_audio.engine.cluster import as_they_end, find_executor
from mgdm_audio.engine.processes import run_jobs
from mgdm_audio.engine.sharding import find_shard
from mgdm_audio.errors import UserError, recorded
from mgdm_audio.evaluation.folders import track_number
from mgdm_audio.separation.separator import opened


@dataclass(frozen=True)
class Separate:
    """What is asked of every track."""

    prior: str
    sampler: str
    level: str
    device: str
    form: FormatName

    def __call__(self, item: tuple[Path, Path]) -> tuple[str, bool]:
        """Writes the folder of a mixture whole or not at all; returns a line, and whether not."""
        mixture, estimate = item
        try:
            found = opened(self.prior, self.sampler, level=self.level, device=self.device)
            result = found.separate(mixture, seed=track_number(mixture.stem))
            subtype = "FLOAT" if self.form == "wav" else None
            record = result.save(estimate, subtype, format=self.form)
        except Exception as error:  # a bug that one track meets is no reason to lose the others
            return recorded(error, estimate.parent, mixture), True
        return f"{estimate}: {record['seconds']:.1f} s on {found.device}", False


def main() -> None:
    options = parser()
    options.add_argument("--device", default="auto")
    options.add_argument("--shard", default="1/1")
    options.add_argument("--nj", type=int, default=1, help="tracks at a time")
    options.add_argument("--executor", default="local", help="see mgdm-audio separate --help")
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
    work = Separate(
        chosen.prior, chosen.sampler, chosen.level, chosen.device, find_format(chosen.format).name
    )
    items = {
        track: (pending[track], chosen.estimates / track) for track in share if track in pending
    }
    if not items:
        return
    if cluster := find_executor(chosen.executor):
        ended = as_they_end(work, items, cluster, on_gpu=chosen.device != "cpu", say=print)
    else:
        ended = run_jobs({name: partial(work, item) for name, item in items.items()}, chosen.nj)
    failures = []
    for _, result in ended:
        line, has_failed = (str(result), True) if isinstance(result, Exception) else result
        if has_failed:
            failures.append(line)
        else:
            print(line, flush=True)
    for why in failures:
        print(f"error: {why}")
    if failures:
        raise UserError(
            f"{chosen.estimates}: {len(failures)} of {len(share)} tracks failed, see above; "
            "the same command tries these again"
        )


if __name__ == "__main__":
    run(main)
