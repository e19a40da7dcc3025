"""Of what a pickle names, nothing is imported or called, by whatever opcode it asks for it."""

import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mgdm_audio.priors import inert_pickle
from mgdm_audio.priors.inert_pickle import Inert


def loads(data: bytes) -> Any:
    return inert_pickle.load(io.BytesIO(data))


def text(value: str) -> bytes:
    """Of protocol 1 and later: a string."""
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def short(value: str) -> bytes:
    """Of protocol 4: a string."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


# Each makes a folder FIRED where pickle itself reads it.
PROGRAMS = {
    "GLOBAL, REDUCE": b"\x80\x02cos\nmkdir\n" + text("FIRED") + b"\x85R.",
    "INST": b"(S'FIRED'\nios\nmkdir\n.",
    "OBJ": b"(csubprocess\nPopen\n(lp0\nS'mkdir'\naS'FIRED'\nao.",
    "NEWOBJ": b"\x80\x02cmain.data\nMultiSourceDataset\n" + text("FIRED") + b"\x85\x81.",
    "NEWOBJ_EX": b"\x80\x04" + short("main.data") + short("MultiSourceDataset") + b"\x93"
    + short("FIRED") + b"\x85}\x92.",
    "STACK_GLOBAL": b"\x80\x04" + short("os") + short("mkdir") + b"\x93"
    + short("FIRED") + b"\x85R.",
    "a name with a dot": b"\x80\x04" + short("main.data") + short("os.mkdir") + b"\x93"
    + short("FIRED") + b"\x85R.",
    "eval": b"\x80\x02cbuiltins\neval\n" + text("__import__('os').mkdir('FIRED')") + b"\x85R.",
    "eval of Python 2": b"c__builtin__\neval\n(S'__import__(\"os\").mkdir(\"FIRED\")'\ntR.",
    "BUILD": b"\x80\x02cmain.data\nMultiSourceDataset\n" + text("") + b"\x85\x81"
    + text("FIRED") + b"b.",
    "a pickle in a pickle": b"\x80\x02cpickle\nloads\nc_codecs\nencode\n"
    + text("cos\nmkdir\n(S'FIRED'\ntR.") + text("latin1") + b"\x86R\x85R.",
    "an attribute": b"\x80\x02cbuiltins\ngetattr\ncmain.data\nos\n" + text("mkdir") + b"\x86R"
    + text("FIRED") + b"\x85R.",
}  # fmt: skip


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module ``main.data`` as the programs want it."""

    class MultiSourceDataset:
        def __new__(cls, name: str) -> "MultiSourceDataset":
            if name:
                os.mkdir(name)
            return super().__new__(cls)

        def __setstate__(self, name: str) -> None:
            os.mkdir(name)

    module = ModuleType("main.data")
    vars(module).update(MultiSourceDataset=MultiSourceDataset, os=os)
    monkeypatch.setitem(sys.modules, "main", ModuleType("main"))
    monkeypatch.setitem(sys.modules, "main.data", module)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
@pytest.mark.usefixtures("main")
def test_no_opcode_calls_what_a_pickle_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(loads(program), Inert)
    assert list(tmp_path.iterdir()) == []
    # Not for want of trying: pickle itself does run it.
    made = pickle.loads(program)
    if isinstance(made, subprocess.Popen):
        made.wait()
    assert (tmp_path / "FIRED").is_dir()


class Refuse(MetaPathFinder):
    """Finds no module, and says so of every one that is asked for."""

    def find_spec(self, name: str, *_: Any) -> None:
        raise AssertionError(f"imports {name}")


def test_nothing_is_imported_that_a_pickle_names(monkeypatch: pytest.MonkeyPatch) -> None:
    program = b"\x80\x02cno_such_module.inside\nThing\n)\x81."
    monkeypatch.setattr(sys, "meta_path", [Refuse()])
    with pytest.raises(AssertionError, match="imports no_such_module"):
        pickle.loads(program)
    assert loads(program).name == "no_such_module.inside.Thing"


class Words(list[str]):
    pass


class Settings(dict[str, int]):
    pass


class Slotted:
    __slots__ = ("value",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_holds_a_strange_object_is_read_all_the_same(protocol: int) -> None:
    """Those that pickle fills: a list's items, a dictionary's, a set's, attributes and slots."""
    slotted = Slotted()
    if protocol < 2:  # has no slots
        slotted = Words("c")  # type: ignore[assignment]
    else:
        slotted.value = 3  # type: ignore[attr-defined]
    (odd := Settings(a=1)).more = [1]  # type: ignore[attr-defined]
    strange = [Words("ab"), odd, slotted, {4, 5}, 3 + 4j, b"bytes", Path("/a"), len, int]
    content = {"before": 1.5, "strange": strange, "after": ["x", (None, True)]}
    read = loads(pickle.dumps(content, protocol))
    assert (read["before"], read["after"]) == (1.5, ["x", (None, True)])
    names = [value.name for value in read["strange"][:2] if isinstance(value, Inert)]
    own = [f"{__name__}.Words", f"{__name__}.Settings"]
    assert names == (own if protocol > 1 else ["copy_reg._reconstructor"] * 2)


def test_a_pickle_does_not_change_the_functions_that_may_be_called() -> None:
    """BUILD sets attributes, of a class and a function too, where pickle is let."""
    before = dict(vars(torch._utils._rebuild_tensor_v2))
    for module, name in inert_pickle.KNOWN:
        known = f"c{module}\n{name}\n".encode()
        for state in (b"}" + text("weight") + b"K\x01s", b"}}" + text("name") + b"K\x01s\x86"):
            loads(b"\x80\x02" + known + state + b"b.")
    assert dict(vars(torch._utils._rebuild_tensor_v2)) == before
    assert not hasattr(inert_pickle.Entries, "weight")
    assert not hasattr(OrderedDict, "weight")
    assert Inert.name == ""


def test_an_ordered_dictionary_comes_without_its_attributes() -> None:
    """Which could hide its methods."""
    ordered = OrderedDict(a=1, b=2)
    vars(ordered)["get"] = vars(ordered)["_metadata"] = 3
    read = loads(pickle.dumps(ordered, 2))
    assert list(read.items()) == [("a", 1), ("b", 2)]
    assert read.get("b") == 2
    assert not hasattr(read, "_metadata")


def test_a_storage_is_no_longer_than_the_file(tmp_path: Path) -> None:
    """``torch.load`` allocates what a persistent name of the earlier format asks for."""

    class Naming(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", None, "0", "cpu", value.stop) if isinstance(value, range) else None

    def read(count: int) -> object:
        with (tmp_path / "a").open("wb") as file:
            Naming(file, 2).dump([range(count)])
            file.write(b"\0" * 1000)
        with (tmp_path / "a").open("rb") as file:
            unpickler = inert_pickle.Unpickler(file)
            unpickler.persistent_load = lambda given: given[4]
            return unpickler.load()

    assert read(1000) == [1000]
    with pytest.raises(pickle.UnpicklingError, match="a storage of 10000000000 numbers"):
        read(10**10)


def test_a_place_of_the_memo_is_no_larger_than_the_pickle() -> None:
    """CPython allocates the memo up to the largest place, 16 bytes each."""
    assert loads(b"\x80\x02]r\x02\x00\x00\x00.") == []
    with pytest.raises(pickle.UnpicklingError, match="place 4294967295 of the memo"):
        loads(b"\x80\x02]r\xff\xff\xff\xff.")
