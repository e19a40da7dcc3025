"""Make the room of the harness, unless it is there:  python make.py ROOM"""

import sys
from pathlib import Path

from children import fork, main, wait, warm_up
from room import build

if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    warm_up()

    def run(words: str) -> int:
        return wait(fork(lambda: main(words, place, place.parent / "make.log")))

    def made() -> int:
        build(place, run)
        return 0

    sys.exit(wait(fork(made)))
