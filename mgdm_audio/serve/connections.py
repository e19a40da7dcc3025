"""HTTP connections that are bounded in number and in how long they may stand still.

uvicorn itself accepts any number of connections, and waits for ever for the end of a request.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from mgdm_audio.serve.limits import Limits


def bounded(limits: Limits) -> type[asyncio.Protocol]:
    """Returns a protocol for ``uvicorn.Config(http=...)``."""
    return type("Bounded", (_Bounded,), {"limits": limits})


class _Bounded(H11Protocol):
    """A connection beyond the limit replaces the one that has been idle longest, if any is idle.

    So whoever holds connections without a request on them keeps nobody else out.
    """

    limits: ClassVar[Limits]
    since = 0.0  # when the other side last did what it has to do, by the clock of the loop
    alarm: asyncio.TimerHandle | None = None
    dropped = False

    @property
    def busy(self) -> bool:
        """Returns whether a request has begun and is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._note()
        self._look()
        there = [c for c in self.connections if isinstance(c, _Bounded) and not c.dropped]
        if len(there) > self.limits.connections:
            idle = [c for c in there if c is not self and not c.busy]
            min(idle, key=lambda c: c.since, default=self).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.busy:  # a part of a request's head is no progress, however many there are
            self._note()
        super().data_received(data)

    def resume_writing(self) -> None:
        self._note()
        super().resume_writing()  # type: ignore[no-untyped-call]

    def on_response_complete(self) -> None:
        self._note()
        super().on_response_complete()

    def drop(self) -> None:
        self.dropped = True
        self.transport.abort()

    def _note(self) -> None:
        self.since = self.loop.time()

    def _look(self) -> None:
        """Drop the connection if it is the other side's turn, and has been for too long."""
        arriving = self.busy and self.cycle.more_body and not self.flow.read_paused
        if self.busy and not arriving and not self.flow.write_paused:
            self._note()  # our own turn
        left = self.since + self.limits.stall - self.loop.time()
        if left <= 0:
            self.drop()
        else:
            self.alarm = self.loop.call_later(left, self._look)
