"""A headless Chromium driven by its DevTools protocol, with the standard library only."""

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
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


def find_axe() -> Path | None:
    """Where recipes/test.sh installs axe-core by npm: beside this Python's packages."""
    path = Path(sys.prefix, "node_modules", "axe-core", "axe.min.js")
    return path if path.is_file() else None


class Browser:
    """The pipe to the browser, and its tabs."""

    def __init__(self, to: int, answers: int, downloads: Path) -> None:
        self._to, self._answers = os.fdopen(to, "wb", 0), os.fdopen(answers, "rb", 0)
        self._count, self._rest = 0, b""
        self._tabs: dict[str, Page] = {}  # by session
        self._events: list[dict[str, Any]] = []  # not waited for yet
        self.downloads = downloads
        self.call(
            "Browser.setDownloadBehavior",
            behavior="allowAndName",
            downloadPath=str(downloads),
            eventsEnabled=True,
        )

    def tab(self) -> "Page":
        """A new one."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._tabs[session] = Page(self, target, session)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        return page

    def close_tabs(self) -> None:
        for page in self._tabs.values():
            self.call("Target.closeTarget", targetId=page.target)
        self._tabs.clear()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; ``session``: that of a tab."""
        self._count += 1
        count = self._count
        message = {"id": count, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        self._to.write(json.dumps(message).encode() + b"\0")
        answer = self._until(lambda event: event.get("id") == count)
        assert "error" not in answer, answer
        return answer.get("result", {})  # type: ignore[no-any-return]

    def event(self, method: str, session: str | None = None, **wanted: Any) -> dict[str, Any]:
        """Wait for an event that has these parameters, and return all of them.

        Also one that came since ``forget``, before anybody waited for it.
        """

        def fits(event: dict[str, Any]) -> bool:
            named = (event.get("method"), event.get("sessionId")) == (method, session)
            return named and wanted.items() <= event["params"].items()

        earlier = next((event for event in self._events if fits(event)), None)
        return (earlier or self._until(fits))["params"]  # type: ignore[no-any-return]

    def forget(self) -> None:
        self._events.clear()

    def _until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            while b"\0" not in self._rest:
                ready = select.select([self._answers], [], [], 60)[0]
                assert ready, f"nothing from the browser in 60 s, of late {self._events[-5:]}"
                more = self._answers.read(1 << 16)
                assert more, "the browser ended"
                self._rest += more
            line, self._rest = self._rest.split(b"\0", 1)
            message = json.loads(line)
            if condition(message):
                return message  # type: ignore[no-any-return]
            if message.get("method") in TROUBLE and message.get("sessionId") in self._tabs:
                self._tabs[message["sessionId"]].errors.append(json.dumps(message["params"]))
            elif "method" in message:
                self._events.append(message)


TROUBLE = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Page:
    """One tab. ``errors``: what its console was told, and what the browser refused it."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self.browser, self.target, self._session = browser, target, session
        self.errors: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        return self.browser.call(method, self._session, **parameters)

    def open(self, place: Path | str) -> Self:
        """A file, or an address."""
        url = place if isinstance(place, str) else place.resolve().as_uri()
        self.browser.forget()
        self.call("Page.navigate", url=url)
        self.browser.event("Page.loadEventFired", self._session)
        return self

    def download(self, selector: str) -> tuple[str, bytes]:
        """Click, and return the name and the content of the file that comes of it."""
        self.browser.forget()
        self.click(selector)
        begun = self.browser.event("Browser.downloadWillBegin")
        guid = begun["guid"]
        self.browser.event("Browser.downloadProgress", guid=guid, state="completed")
        return begun["suggestedFilename"], (self.browser.downloads / guid).read_bytes()

    def narrow(self, width: int) -> None:
        """Give the tab the width of a phone, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=True,
        )

    def violations(self, axe: Path) -> list[str]:
        """What axe-core finds against WCAG 2.2 A and AA and its own rules of good practice."""
        self.get(f"{axe.read_text()}; 0")
        return self.get(  # type: ignore[no-any-return]
            "axe.run({resultTypes: ['violations']}).then(r => r.violations.map("
            "v => v.id + ': ' + v.nodes.map(n => n.html + n.failureSummary).join()))"
        )

    def get(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until it is true, looked at every 10 ms; no longer than 20 s on a page.

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
        for kind in ("Pressed", "Released"):
            self._mouse(kind, selector, share)

    def _mouse(self, kind: str, selector: str, share: float) -> None:
        place = self._place(selector, share)
        held = {"button": "left", "buttons": int(kind != "Released"), "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", **held, **place)

    def drag(self, selector: str, begin: float, end: float) -> None:
        """The left mouse button held, from one share of the element's width to another."""
        for kind, share in (("Pressed", begin), ("Moved", (begin + end) / 2), ("Moved", end)):
            self._mouse(kind, selector, share)
        self._mouse("Released", selector, end)

    def drop(self, selector: str, *files: Path) -> None:
        """Files, dragged on an element."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            place = self._place(selector)
            self.call("Input.dispatchDragEvent", type=kind, data=data, **place)

    def _place(self, selector: str, share: float = 0.5) -> dict[str, float]:
        box = self.get(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getClientRects()[0];"
            "return [b.left, b.top, b.width, b.height]; })()"
        )
        return {"x": box[0] + share * box[2], "y": box[1] + box[3] / 2}


@contextmanager
def chromium(path: str, folder: Path) -> Iterator[Browser]:
    """A running browser; its profile and the files that it saves are in ``folder``."""
    (its_input, to), (answers, its_output) = os.pipe(), os.pipe()
    # It reads commands from descriptor 3 and answers on 4.
    shell = f'exec "$0" "$@" 3<&{its_input} 4>&{its_output}'
    command = ["bash", "-c", shell, path, *FLAGS, f"--user-data-dir={folder}/profile"]
    process = subprocess.Popen(command, pass_fds=(its_input, its_output), stderr=subprocess.DEVNULL)
    os.close(its_input)
    os.close(its_output)
    try:
        yield Browser(to, answers, folder)
    finally:
        process.terminate()
        process.wait()
