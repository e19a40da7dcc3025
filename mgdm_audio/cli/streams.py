"""Standard output and standard error that stop no work.

A name that they cannot show is escaped, and so is what would steer a terminal; what a reader that
has left, or a full disk, does not take any more is dropped.
"""

import codecs
import errno
import io
import os
import sys

# Of the control characters (ECMA-48) a text needs the ends of lines and words, a progress bar the
# return. Names of files may hold any: some would move the cursor, change colours or the title.
_STEERING = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\r"
}
NAMES = ("stdin", "stdout", "stderr")  # by their numbers as descriptors


class Lasting(io.TextIOWrapper):
    """A text stream whose writes do not fail; ``error`` is what the first one failed with."""

    error: OSError | None = None

    def write(self, text: str) -> int:
        try:
            super().write(text.translate(_STEERING))
            if self.write_through:  # PYTHONUNBUFFERED; the buffer below would keep it
                super().flush()
            return len(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """What is still in the buffers would fail again when Python ends, so it goes elsewhere."""
        self.error = self.error or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def steady() -> None:
    """Make both streams such; a descriptor that is closed is opened on the null device.

    Else the next file that is opened would get the number of standard output, and what a library
    prints would be written into it.
    """
    for descriptor, name in enumerate(NAMES):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one
            os.set_inheritable(descriptor, True)
            if getattr(sys, name) is None and descriptor:
                setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115
        stream = getattr(sys, name)
        if name == "stdin" or isinstance(stream, Lasting):
            continue
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream is getattr(sys, f"__{name}__"):
            stream.flush()
            # Around ASCII, a misconfiguration, click would put a UTF-8 stream of its own.
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            # A buffer of its own: what the stream found out of its descriptor when it was opened,
            # whether it can be wound back say, may no longer hold.
            raw = io.FileIO(stream.fileno(), "w", closefd=False)
            lasting = Lasting(
                io.BufferedWriter(raw),
                "utf-8" if is_ascii else stream.encoding,
                "backslashreplace",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, lasting)
        else:  # somebody's who reads what is written, a test's say
            stream.reconfigure(errors="backslashreplace")


def lost() -> str | None:
    """Why standard output was not written to its end: "" where its reader left, None if it was."""
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if error is None:
        return None
    return "" if error.errno == errno.EPIPE else str(error.strerror)
