"""A headless Chromium driven by its DevTools protocol, with the standard library only."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it would refuse to run as root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab. ``errors``: what its console was told, and what the browser refused it."""

    def __init__(self, to: int, answers: int) -> None:
        self._to, self._answers = os.fdopen(to, "wb", 0), os.fdopen(answers, "rb", 0)
        self._count, self._rest, self._session = 0, b"", {}
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters, **self._session}
        self._to.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, answer
        return answer.get("result", {})  # type: ignore[no-any-return]

    def open(self, place: Path | str) -> Self:
        """A file, or an address."""
        url = place if isinstance(place, str) else place.resolve().as_uri()
        self.call("Page.navigate", url=url)
        while (event := self._next()).get("method") != "Page.loadEventFired":
            self._note(event)
        return self

    def get(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until it is true, looked at in every frame; no longer than 20 s on a page.

        A page that was just left takes the promise with it: the next one is asked anew.
        """
        expression = (
            "new Promise((found) => { const end = performance.now() + 20000;"
            f"(function look() {{ if ({condition}) found(true);"
            "else if (performance.now() > end) found(false);"
            "else setTimeout(look, 10); })(); })"
        )
        try:
            held = self.get(expression)
        except AssertionError as error:
            if "navigated or closed" not in str(error):
                raise
            held = self.get(expression)
        assert held, f"not within 20 s: {condition}; {self.errors}"

    def press(self, code: str, key: str, number: int, shift: bool = False) -> None:
        """A key, as if by hand: ``code`` names the key, ``number`` is its virtual key code."""
        common = {"code": code, "key": key, "windowsVirtualKeyCode": number}
        text = {"text": key} if len(key) == 1 else {}
        for kind, more in (("keyDown", text), ("keyUp", {})):
            self.call("Input.dispatchKeyEvent", type=kind, modifiers=8 * shift, **common, **more)

    def click(self, selector: str, share: float = 0.5) -> None:
        """The left mouse button on an element, at ``share`` of its width."""
        place = self._place(selector, share)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def drop(self, selector: str, *files: Path) -> None:
        """Files, dragged on an element."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            place = self._place(selector)
            self.call("Input.dispatchDragEvent", type=kind, data=data, **place)

    def _place(self, selector: str, share: float = 0.5) -> dict[str, float]:
        box = self.get(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]; })()"
        )
        return {"x": box[0] + share * box[2], "y": box[1] + box[3] / 2}

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = self._answers.read(1 << 16)
            assert more, "the browser ended"
            self._rest += more
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)  # type: ignore[no-any-return]

    def _note(self, event: dict[str, Any]) -> None:
        method, parameters = event.get("method"), event.get("params", {})
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.errors.append(json.dumps(parameters))


@contextmanager
def chromium(path: str, profile: Path) -> Iterator[Page]:
    """A running browser with an empty profile and one tab."""
    (its_input, to), (answers, its_output) = os.pipe(), os.pipe()
    # It reads commands from descriptor 3 and answers on 4.
    shell = f'exec "$0" "$@" 3<&{its_input} 4>&{its_output}'
    command = ["bash", "-c", shell, path, *FLAGS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, pass_fds=(its_input, its_output), stderr=subprocess.DEVNULL)
    os.close(its_input)
    os.close(its_output)
    try:
        yield Page(to, answers)
    finally:
        process.terminate()
        process.wait()
