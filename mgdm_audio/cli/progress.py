"""The progress bar that commands share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """One bar with the time left, moved by (steps done, steps in all).

    Nothing is drawn where standard error is not a terminal.
    """
    from tqdm import tqdm

    form = "{desc} {percentage:3.0f} % |{bar}| {elapsed} < {remaining}"
    with tqdm(total=1, desc=name, bar_format=form, disable=not sys.stderr.isatty()) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.refresh()

        yield update
