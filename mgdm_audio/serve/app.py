"""The web application: a page, and what it asks for.

It is meant for one user at the same machine. A page of another site, open in the same browser, may
send requests here too: those that change something must come from our own page (Origin), and none
is answered under another name than ours (Host), which a site's name could be made to point to.
Jobs have names that cannot be guessed, and there is no list of them.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from string import Template
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mgdm_audio.errors import UserError, recorded
from mgdm_audio.report.markup import content_security_policy, framed, resource, text_of
from mgdm_audio.serve.jobs import PAGE, Job, Jobs

NAMES = ("127.0.0.1", "localhost")
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def make_app(jobs: Jobs, port: int, *, about: str) -> Starlette:
    """``about``: a line on how tracks are separated. The jobs are closed when the server ends."""
    page = _Page(jobs, about)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(jobs.close)

    hosts = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())
    return Starlette(
        routes=[
            Route("/", page.show),
            Route("/tracks", page.receive, methods=["POST"]),
            Route("/tracks/{id}", page.state),
            Route("/tracks/{id}", page.remove, methods=["DELETE"]),
            Route("/tracks/{id}/{result}", page.result),
        ],
        middleware=[Middleware(_Guard, hosts=hosts, log=jobs.log)],
        lifespan=lifespan,
    )


class _Guard:
    """Refuses what does not come from our own page, and keeps answers away from other sites.

    A bug is an answer too, and its traceback in a file in ``log``."""

    def __init__(self, app: ASGIApp, hosts: set[str], log: Path | None) -> None:
        self._app, self._hosts, self._log = app, hosts, log
        self._origins = {f"http://{host}" for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = None
        if headers.get("host", "").lower() not in self._hosts:
            refusal = PlainTextResponse("unknown host\n", 403)
        elif scope["method"] not in ("GET", "HEAD") and headers.get("origin") not in self._origins:
            refusal = PlainTextResponse("from another site\n", 403)

        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await (refusal or self._app)(scope, receive, answer)
        except Exception as error:
            line = await run_in_threadpool(recorded, error, self._log, scope["path"])
            if not begun:
                await _refusal(500, line)(scope, receive, answer)


class _Page:
    """The answers. A refusal is JSON: {"message": why}."""

    def __init__(self, jobs: Jobs, about: str) -> None:
        self.jobs, self.limit = jobs, int(1e6 * jobs.limits.megabytes)  # limit: bytes
        style = resource("page.css", "mgdm_audio.report") + resource("page.css", __package__)
        script = resource("common.js", "mgdm_audio.report") + resource("page.js", __package__)
        body = Template(resource("page.html", __package__)).substitute(
            about=text_of(about), limit=f"{self.limit / 1e6:g}"
        )
        self.html = framed("Separate music", body, style, script)
        own = ["connect-src 'self'", "frame-src 'self'", "frame-ancestors 'none'"]
        self.policy = content_security_policy(style, script, *own)

    async def show(self, request: Request) -> Response:
        return HTMLResponse(self.html, headers={"content-security-policy": self.policy})

    async def receive(self, request: Request) -> Response:
        """The file is the body; the query has its name."""
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.limit:
            return self._too_large()
        try:
            job = await run_in_threadpool(self.jobs.open, file_name(request.query_params))
        except UserError as error:
            return _refusal(503, str(error))
        refusal = await self._arrived(request, job)
        if refusal is not None:
            await run_in_threadpool(self.jobs.remove, job)
            return refusal
        self.jobs.add(job)
        return JSONResponse(self.jobs.describe(job), 201)

    async def _arrived(self, request: Request, job: Job) -> Response | None:
        """None when the file is whole, else why it is not."""
        received, seconds = 0, self.jobs.limits.upload
        try:
            with open(job.source, "xb") as file:
                async with asyncio.timeout(seconds):
                    async for block in request.stream():
                        received += len(block)
                        if received > self.limit:
                            return self._too_large()
                        await run_in_threadpool(file.write, block)
        except TimeoutError:
            return _refusal(408, f"{job.name}: it did not arrive in {seconds:g} s")
        except ClientDisconnect:
            return _refusal(400, f"{job.name}: it was not sent to its end")
        except OSError as error:
            return _refusal(507, f"{job.name}: {error.strerror}")
        return None

    async def state(self, request: Request) -> Response:
        job = self._find(request)
        return JSONResponse(self.jobs.describe(job)) if job else _unknown()

    async def remove(self, request: Request) -> Response:
        job = self._find(request)
        if job is None:
            return _unknown()
        await run_in_threadpool(self.jobs.remove, job)
        return Response(status_code=204)

    async def result(self, request: Request) -> Response:
        job = self._find(request)
        name = request.path_params["result"]
        if job is None or name not in job.results:
            return _unknown()
        if name == PAGE:  # beside its own policy: it is no part of our page, which alone frames it
            policy = "sandbox allow-scripts allow-downloads; frame-ancestors 'self'"
            own = {"content-security-policy": policy}
            return FileResponse(job.results[name], headers=own)
        saved = name  # the track's, where all stems are in one file
        if not name.endswith(".stem.mp4"):
            saved = f"{Path(job.name).stem} ({Path(name).stem}){Path(name).suffix}"
        return FileResponse(job.results[name], filename=saved)

    def _find(self, request: Request) -> Job | None:
        return self.jobs.find(request.path_params["id"])

    def _too_large(self) -> Response:
        return _refusal(413, f"larger than {self.limit / 1e6:g} MB, as --max-megabytes says")


def file_name(query: Any) -> str:
    """Returns the query's file name: without folders, and short enough for a file system.

    Control characters are left out, as are marks that change the direction of text.
    """
    last = query.get("name", "").replace("\\", "/").rpartition("/")[2]
    shown = "".join(c for c in last if unicodedata.category(c)[0] != "C")
    path = Path(shown.strip().lstrip("."))
    stem = path.stem.encode()[:150].decode(errors="ignore").strip()
    return (stem or "track") + path.suffix[:10]


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status)


def _unknown() -> Response:
    return _refusal(404, "removed, or never there")
