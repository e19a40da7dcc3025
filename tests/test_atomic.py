"""Files and folders are there whole or not at all."""

import ast
import errno
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from mgdm_audio import atomic
from mgdm_audio.atomic import (
    new_folder,
    recover,
    replaced_folder,
    room,
    sweep,
    write_by,
    write_text,
)
from mgdm_audio.errors import UserError
from mgdm_audio.output.result_folder import whole
from tests.killing import full_disk, killed_at_every_moment, leftovers


@pytest.fixture(params=["at once", "in two calls"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On file systems that exchange two folders, and on those that do not."""
    if request.param == "in two calls":

        def cannot(one: bytes, other: bytes) -> None:
            raise NotImplementedError

        monkeypatch.setattr(atomic, "_exchange_at_once", cannot)


def contents(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir()}


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "one")
    write_text(tmp_path / "a", "zwölf")
    assert (tmp_path / "a").read_bytes() == "zwölf".encode()
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_of_the_temporary_name_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write to a folder could else have another file of the user's replaced."""
    (tmp_path / "theirs").write_text("theirs")
    name = atomic._name()
    (tmp_path / name).symlink_to(tmp_path / "theirs")
    monkeypatch.setattr(atomic, "_name", lambda: name)
    with pytest.raises(UserError, match="File exists"):
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert not (tmp_path / "a").exists()


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A pipe here; to root it might be /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        with pytest.raises(UserError, match="is no regular file; choose another place"):
            write_text(tmp_path / name, "new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert (tmp_path / "link").is_symlink()
    assert len(os.listdir(tmp_path)) == 2


def test_a_file_that_is_killed_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    seen = set()

    def work() -> None:
        write_text(tmp_path / "a", "new")

    for _ in killed_at_every_moment(work, tmp_path, lambda: write_text(tmp_path / "a", "old")):
        seen.add((tmp_path / "a").read_text())
    assert seen == {"old", "new"}
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.usefixtures("exchange")
def test_a_folder_that_is_killed_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    """Of both files: never one of each, and never neither."""
    final, seen = tmp_path / "prior", []

    def put(text: str) -> None:
        with replaced_folder(final, own=("weights", "config")) as partial:
            for name in ("weights", "config"):
                (partial / name).write_text(text)

    def prepare() -> None:
        put("old")
        (final / "mine").write_text("mine")
        assert leftovers(tmp_path) == []  # of the process that was killed before

    for _ in killed_at_every_moment(lambda: put("new"), tmp_path, prepare):
        recover(final)  # as a reader does
        found = contents(final)
        assert found.pop("mine") == "mine"  # what is not of the group stays
        assert found in ({"weights": text, "config": text} for text in ("old", "new"))
        seen.append(found["config"])
    assert {"old", "new"} == set(seen)
    assert seen == sorted(seen, reverse=True)  # once it is new it stays so


@pytest.mark.usefixtures("exchange")
def test_a_folder_is_replaced_with_all_that_is_its_own(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "track"
    with replaced_folder(final) as partial:
        (partial / "old").write_text("1")
    (final / "mine").write_text("mine")
    with replaced_folder(final) as partial:
        (partial / "new").write_text("2")
    assert contents(final) == {"new": "2"}
    link = tmp_path / "link"
    link.symlink_to(final)
    with replaced_folder(link) as partial:
        (partial / "newer").write_text("3")
    assert link.is_symlink()
    assert contents(final) == {"newer": "3"}
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["track"]


@pytest.mark.usefixtures("exchange")
def test_a_folder_replaces_the_one_that_another_process_made_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, rename, again = tmp_path / "there", os.rename, iter([True])

    def interfere(source: Path, target: Path) -> None:
        if target == there and next(again, False):
            there.mkdir()
            (there / "theirs").write_text("theirs")
        rename(source, target)

    monkeypatch.setattr(os, "rename", interfere)
    with replaced_folder(there) as partial:
        (partial / "mine").write_text("mine")
    assert contents(there) == {"mine": "mine"}
    assert os.listdir(tmp_path) == ["there"]


def test_what_cannot_be_exchanged_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(one: bytes, other: bytes) -> None:
        raise NotImplementedError

    final, rename = tmp_path / "a", os.rename
    with replaced_folder(final) as partial:
        (partial / "b").write_text("old")

    def refuse(source: Path, target: Path) -> None:
        if target == final and source.name != "a":
            raise OSError(errno.EEXIST if final.exists() else errno.EIO, "refused")
        rename(source, target)

    monkeypatch.setattr(atomic, "_exchange_at_once", cannot)
    monkeypatch.setattr(os, "rename", refuse)
    with (
        pytest.raises(UserError, match=r"a: cannot be written \(refused\)"),
        replaced_folder(final) as partial,
    ):
        (partial / "b").write_text("new")
    assert contents(final) == {"b": "old"}
    assert os.listdir(tmp_path) == ["a"]


def write_file(path: Path) -> None:
    write_text(path, "new")


def write_new(path: Path) -> None:
    fill(new_folder(path))


def write_over(path: Path) -> None:
    fill(replaced_folder(path))


def write_result(path: Path) -> None:
    fill(whole(path, "record"))


def fill(folder: AbstractContextManager[Path]) -> None:
    with folder as partial:
        (partial / "deep").mkdir()
        for name in ("record", "deep/stem"):
            (partial / name).write_text("new")


Writer = Callable[[Path], None]
WRITERS = [(write_file, False), (write_file, True), (write_new, False), (write_over, False),
           (write_over, True), (write_result, False), (write_result, True)]  # fmt: skip


@pytest.mark.parametrize(("write", "before"), WRITERS)
def test_what_takes_a_name_has_reached_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer, before: bool
) -> None:
    """A power cut after the rename would else leave the name without the content."""
    if before and write is write_file:
        write_text(tmp_path / "a", "old")
    elif before:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "record").write_text("old")
    synced: dict[int, int] = {}  # number of a file -> bytes

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size

    renames = 0

    def before_rename(path: Path) -> None:
        nonlocal renames
        renames += 1
        parts = [path, *path.rglob("*")] if path.is_dir() else [path]
        for part in parts:
            if part.is_file():
                assert synced.get(part.stat().st_ino) == part.stat().st_size == 3

    rename, replace, take = os.rename, os.replace, atomic._exchange

    def wrapped(move: Callable[..., None]) -> Callable[..., None]:
        def call(source: Path, target: Path) -> None:
            before_rename(Path(source))
            move(source, target)

        return call

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", wrapped(rename))
    monkeypatch.setattr(os, "replace", wrapped(replace))
    monkeypatch.setattr(atomic, "_exchange", wrapped(take))
    write(tmp_path / "a")
    assert renames


@pytest.mark.parametrize(("write", "before"), WRITERS)
def test_a_full_disk_is_one_line_and_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer, before: bool
) -> None:
    if before:
        write(tmp_path / "a")
    old = sorted((str(p), p.is_file() and p.read_text()) for p in tmp_path.rglob("*"))
    monkeypatch.setattr(os, "fsync", full_disk(1, []))
    with pytest.raises(UserError, match=r"a: cannot be written \(No space left on device\)") as e:
        write(tmp_path / "a")
    assert "\n" not in str(e.value)
    assert sorted((str(p), p.is_file() and p.read_text()) for p in tmp_path.rglob("*")) == old


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "make room, or choose another place"),
        (errno.EDQUOT, "make room, or choose another place"),
        (errno.EROFS, "(Read-only file system); choose another place"),
    ],
)
def test_the_line_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError) as caught:
        write_text(tmp_path / "a", "x")
    assert str(caught.value).endswith(says)
    assert os.listdir(tmp_path) == []


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    write_text(tmp_path / "a", "old")
    with pytest.raises(UserError, match=r"a: cannot be written \(No space left on device\)"):
        write_by(tmp_path / "a", fail)
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_library_that_makes_private_files_does_not_change_the_mode(tmp_path: Path) -> None:
    def private(partial: Path) -> None:
        partial.unlink()
        partial.touch(mode=0o600)

    (tmp_path / "usual").touch()
    write_by(tmp_path / "a", private)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "usual")]
    assert modes[0] == modes[1]


def test_a_file_in_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; make it first"):
        write_text(tmp_path / "none" / "a", "x")


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out) as partial:
        (partial / "a").write_text("x")
        assert not out.exists()
    assert (out / "a").read_text() == "x"
    assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize("error", [OSError(28, "full"), UserError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("make", [new_folder, replaced_folder])
def test_a_folder_that_cannot_be_finished_is_gone(
    tmp_path: Path, make: Callable[[Path], AbstractContextManager[Path]], error: BaseException
) -> None:
    def half() -> None:
        with make(tmp_path / "out") as partial:
            (partial / "a").write_text("x")
            raise error

    with pytest.raises(UserError if isinstance(error, OSError) else type(error)):
        half()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"), new_folder(tmp_path):
        pass
    with pytest.raises(UserError, match="cannot be written"), new_folder(Path("/dev/null/out")):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), replaced_folder(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == ["file"]


def test_two_at_work_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    with room(tmp_path) as one, room(tmp_path) as other:
        assert one != other
        (one / "a").write_text("1")
        assert list(other.iterdir()) == []
    assert os.listdir(tmp_path) == []


LEAVE = """import os, sys
from pathlib import Path
from mgdm_audio.atomic import room, write_by
with room(Path(sys.argv[1])) as a:
    (a / "half").touch()
    write_by(Path(sys.argv[1]) / "file", lambda partial: os._exit(9))
"""


def test_what_a_killed_process_left_goes_with_the_next_that_writes_there(tmp_path: Path) -> None:
    for clean in (lambda: sweep(tmp_path), lambda: write_text(tmp_path / "other", "x")):
        subprocess.run([sys.executable, "-c", LEAVE, tmp_path], check=False)
        assert len(leftovers(tmp_path)) == 2  # a file and a folder
        with room(tmp_path) as mine:
            clean()
            assert leftovers(tmp_path) == [mine.name]  # what a living one works in stays
        assert leftovers(tmp_path) == []


def test_the_number_of_an_ended_process_may_be_another_s_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_born", lambda process: 12345)  # as this one was not
        (tmp_path / atomic._name()).touch()
    sweep(tmp_path)
    assert leftovers(tmp_path) == ([] if sys.platform == "linux" else [os.listdir(tmp_path)[0]])


def test_what_another_machine_left_goes_after_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whether its process is alive."""
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_host", lambda: "0" * 8)
        (theirs := tmp_path / atomic._name()).mkdir()
    sweep(tmp_path)
    assert theirs.is_dir()
    (theirs / "deep").mkdir()
    (theirs / "deep" / "stem.wav").touch()  # it works on, deep inside
    for folder in (theirs / "deep", theirs):
        os.utime(folder, (0, 0))
    sweep(tmp_path)
    assert theirs.is_dir()
    os.utime(theirs / "deep" / "stem.wav", (0, 0))
    sweep(tmp_path)
    assert not theirs.exists()


@pytest.mark.parametrize(
    "name", [f".{'0a' * 8}.partial", ".0123abcd-89abcdef-4711-0a1b2c3d.partial"]
)
def test_what_an_earlier_version_left_goes_after_a_week(tmp_path: Path, name: str) -> None:
    """Its names (commit 13ab532) have no process that could be asked for, or none of today's."""
    (left := tmp_path / name).touch()
    sweep(tmp_path)
    assert left.is_file()
    os.utime(left, (0, 0))
    sweep(tmp_path)
    assert not left.exists()
    with replaced_folder(tmp_path / "a"):
        pass
    (tmp_path / "a" / name).touch()
    with replaced_folder(tmp_path / "a", own=()):
        pass
    assert os.listdir(tmp_path / "a") == []  # it is nothing of the user's to be carried over


def test_files_of_the_user_s_with_that_ending_stay(tmp_path: Path) -> None:
    names = {".partial", "song.partial", f".{'0' * 16}.partial", ".download.partial"}
    for name in names:
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == names
    shutil.rmtree(tmp_path)
    sweep(tmp_path)  # no folder: nothing to do


PACKAGE = Path(atomic.__file__).parent
FOLDERS = {"new_folder", "replaced_folder", "whole", "room"}  # that take their place when whole
WRITES = {"write_text", "write_bytes", "save_file", "save_tensors", "touch", "dump"}
SHUTIL = {"copy", "copy2", "copyfile", "copytree", "move"}
OTHERS = {"torch.save", "program.save", "np.savez"}
ELSEWHERE: dict[str, list[str]] = {  # the other calls that write, and why that is no harm
    # The mechanism itself.
    "atomic.py": ["open", "write_bytes", "open", "shutil.copytree",
                  "shutil.copy2"],
    # In a folder of ``whole``, by stem_files.
    "audio/encoding/mp4.py": ["open", "self._av.open"],
    "audio/encoding/stem_atom.py": ["open"],
    "audio/encoding/tag_blocks.py": ["open"],
    "audio/encoding/wav.py": ["open"],
    "cli/streams.py": ["open"],  # the streams themselves
    "engine/locks.py": ["open"],  # the lock, whose content nobody needs
    "errors.py": ["open"],  # one more of the bugs
    "engine/memory.py": ["CLEAR_REFS.write_text"],  # a switch of the kernel's
    # In a folder of ``whole``, by ``place``.
    "output/stem_files.py": ["place(layout.uncertainty).write_text",
                             "place(layout.record).write_text"],
    # In a folder of ``replaced_folder``, by save_prior.
    "priors/folder.py": ["save_tensors", "(folder / CONFIG).write_text"],
    "priors/tensor_files.py": ["save_file"],  # by the name that the others here give it
    # The temporary file of write_by; once as of the function in which that function is.
    "report/page.py": ["open", "open"],
    "serve/app.py": ["open"],  # an upload, in the temporary folder of its job
    "training/log.py": ["open"],  # one more line, or the file as it was
}  # fmt: skip


def written_past(source: str) -> list[str]:
    """Calls that write a file by its name, but for those into a folder of ``FOLDERS``."""
    found = []
    for part in ast.walk(ast.parse(source)):
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        calls = [node for node in ast.walk(part) if isinstance(node, ast.Call)]
        safe = {
            item.optional_vars.id
            for node in ast.walk(part)
            if isinstance(node, ast.With)
            for item in node.items
            if isinstance(item.optional_vars, ast.Name)
            and isinstance(item.context_expr, ast.Call)
            and last_name(item.context_expr) in FOLDERS
        }
        given = {inner for c in calls if last_name(c) == "write_by" for inner in ast.walk(c)}
        for call in calls:
            name, names = ast.unparse(call.func), ast.walk(call.func)
            if call in given or name.startswith("atomic.") or name == "write_text":
                continue
            if writes(call) and not safe & {n.id for n in names if isinstance(n, ast.Name)}:
                found.append(name)
    return found


def last_name(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def writes(call: ast.Call) -> bool:
    name, last = ast.unparse(call.func), last_name(call)
    modes = [word.value for word in call.args if isinstance(word, ast.Constant)]
    if last == "open":
        return any(
            isinstance(mode, str) and re.fullmatch(r"[rbt]*[wax+].*", mode) for mode in modes
        )
    return last in WRITES or name in OTHERS or (name.startswith("shutil.") and last in SHUTIL)


def test_nothing_else_of_the_package_writes_a_file_in_place() -> None:
    """A kill, or a full disk, amid ``path.write_text`` leaves half a file under its own name."""
    found = {
        path.relative_to(PACKAGE).as_posix(): written_past(path.read_text(encoding="utf-8"))
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: calls for name, calls in found.items() if calls} == ELSEWHERE
    within = "def f(a):\n    with whole(a) as b:\n        (b / 'c').write_text('')\n"
    assert written_past(within) == []
    assert written_past(within.replace("(b", "(a")) == ["(a / 'c').write_text"]
    assert written_past(within.replace("whole(a)", "other(a)")) == ["(b / 'c').write_text"]
    assert written_past("def f(a):\n    open(a, 'wb').close()\n") == ["open"]
