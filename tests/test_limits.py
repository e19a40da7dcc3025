"""Files and functions stay short enough to be read at once, and say what options they take."""

import ast
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import torch

import mgdm_audio
from mgdm_audio.separation.separator import Separator

PACKAGE = Path(mgdm_audio.__file__).parent
FILES = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 320, 60
FILES_OF_A_SEPARATION = 30
FILES_OF_A_FOLDER = 14
# Stands for the class of any object in a pickle, whose arguments it drops.
# The other one overrides click's method of the same parameters.
TAKE_ANY = {"priors/inert_pickle.py": ["__init__"], "cli/main.py": ["main"]}
FOREIGN = {"interop/deepinv_modules.py"}  # its signatures are deepinv's


def long_functions(source: str) -> list[str]:
    """Names of the functions that have too many lines, from ``def`` to the last one."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LINES_OF_A_FUNCTION
    ]


def test_no_file_is_longer() -> None:
    lines = {name: len(source.splitlines()) for name, source in FILES.items()}
    assert {name: n for name, n in lines.items() if n > LINES_OF_A_FILE} == {}


def test_no_function_is_longer() -> None:
    assert {name: long for name, text in FILES.items() if (long := long_functions(text))} == {}


def test_a_longer_function_would_be_found() -> None:
    inner = "def f():\n" + "    def g():\n" + "        pass\n" * (LINES_OF_A_FUNCTION - 1)
    assert long_functions(inner) == ["f"]
    assert long_functions(inner + "        pass\n") == ["f", "g"]


def untyped_options(source: str) -> list[str]:
    """Names of the public functions, nested ones aside, that take any option as ``**name: Any``."""
    tree = ast.parse(source)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return [
        node.name
        for node in (*tree.body, *(member for each in classes for member in each.body))
        if isinstance(node, ast.FunctionDef)
        and not (node.name.startswith("_") and node.name != "__init__")
        and node.args.kwarg is not None
        and (annotation := node.args.kwarg.annotation) is not None
        and ast.unparse(annotation) in ("Any", "object")
    ]


def test_no_public_function_takes_any_option() -> None:
    """``mypy`` could not tell a user of a misspelt one; see tests/typed/user.py."""
    found = {n: names for n, text in FILES.items() if (names := untyped_options(text))}
    assert {n: names for n, names in found.items() if n not in FOREIGN} == TAKE_ANY


def test_a_function_that_took_any_would_be_found() -> None:
    source = "class A:\n    def f(self, **options: Any): ...\n    def _g(self, **o: Any): ..."
    assert untyped_options(source) == ["f"]
    assert untyped_options("def f(**options: Unpack[Options]): ...") == []


def test_a_separation_goes_through_few_files(tiny_prior: Path) -> None:
    """From samples in memory to stems, by a profiler: a reader follows so many files."""
    # Where bfloat16 is fast, another file changes the precision.
    separator = Separator.from_pretrained(tiny_prior, device="cpu", precision="float32")
    separator.workers = 1  # a profiler sees one thread
    files = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        dict(separator.separate(0.1 * torch.ones(22050), 22050).stems)
    finally:
        sys.setprofile(None)
    own = sorted(name for name in files if name.startswith(str(PACKAGE)))
    assert len(own) <= FILES_OF_A_SEPARATION, own


def test_no_folder_but_the_samplers_holds_many_files() -> None:
    counts = Counter(str(Path(name).parent) for name in FILES)
    full = {folder: n for folder, n in counts.items() if n > FILES_OF_A_FOLDER}
    assert full.keys() <= {"samplers"}, full
