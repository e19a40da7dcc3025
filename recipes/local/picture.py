"""Take a picture of a listening page as a browser shows it.

    python picture.py PAGE PICTURE

PICTURE is written as WebP, of the width of a desktop and as high as the players, while a loop is
set and the uncertainty is shown. Needs Chromium, driven as in the tests.
"""

import base64
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

from tests.report.chromium import chromium, find_chromium

WIDTH = 1280  # CSS pixels


def main(page: Path, picture: Path) -> None:
    path = find_chromium()
    if path is None:
        sys.exit("error: there is no Chromium; apt install chromium")
    with tempfile.TemporaryDirectory() as room, chromium(path, Path(room)) as browser:
        tab = browser.tab()
        size = {"width": WIDTH, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        tab.call("Emulation.setDeviceMetricsOverride", **size)
        tab.open(page)
        tab.wait_for("document.body.dataset.state === 'ready'")
        tab.click("#uncertainty")
        tab.drag(".c1 .pictures", 0.4, 0.6)
        tab.get("scrollTo(0, 0)")
        bottom = tab.get("rows[rows.length - 1].element.getBoundingClientRect().bottom")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": bottom + 16, "scale": 1}
        options = {"format": "webp", "quality": 75, "captureBeyondViewport": True, "clip": clip}
        data = base64.b64decode(tab.call("Page.captureScreenshot", **options)["data"])
    picture.write_bytes(data)
    print(f"written: {picture} ({len(data)} bytes)")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("error: give a page and the picture to write")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
