"""Imports go down only, from the command line to the mathematics: ``LAYERS``, lowest first."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mgdm_audio

PACKAGE = Path(__file__).parents[1] / "mgdm_audio"
LAYERS = [
    {"errors", "tables", "tensors", "version"},
    {"reading"},
    {"rng", "config", "ranges", "atomic", "digest"},
    {"krylov", "registry"},
    {"diffusion", "measurement"},
    {"conditioning"},
    {"samplers", "networks"},
    {"priors", "engine", "interop"},
    {"audio"},
    {"output", "images", "data"},
    {"separation"},
    {"generation"},
    {"evaluation"},
    {"training", "report"},
    {"serve"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in RANK
)
MATHEMATICS = {"diffusion", "measurement", "conditioning", "samplers", "networks"}
EXTENDS = {  # samplers of ours on the paper's
    "mgdm_covariance": {"mgdm"},
    "mgdm_mean": {"mgdm_covariance"},
}
SHARED_BY_SAMPLERS = {"base", "options", "adam", "chain_mean", "langevin"}


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here, names = part(path), imports(path)
    for name in names:
        package, _, inside = name.partition(".")
        there = inside.split(".")[0]
        if package == "mgdm_audio" and there in RANK and there != here:
            assert RANK[there] < RANK[here], f"{here} imports {there}"
    if here in MATHEMATICS:
        assert not {n.split(".")[0] for n in names} & {
            "click", "soundfile", "torchaudio", "museval", "PIL"
        }  # fmt: skip
    if here == "samplers" and path.parent.name == "samplers" and path.stem != "__init__":
        siblings = {n.split(".")[2] for n in names if n.startswith("mgdm_audio.samplers.")}
        assert siblings <= SHARED_BY_SAMPLERS | EXTENDS.get(path.stem, set()), (
            f"a sampler imports {siblings}"
        )


def test_every_module_has_a_layer() -> None:
    known = {*RANK, "__init__", "__main__", "pretrained"}
    assert {part(path) for path in PACKAGE.rglob("*.py")} <= known


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, mgdm_audio; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0


def test_the_public_names_are_all_there_and_nothing_else_is_shown() -> None:
    names = dir(mgdm_audio)
    assert names == sorted(names)
    assert all(hasattr(mgdm_audio, name) for name in names)
    assert set(names) == {*mgdm_audio._HOMES, "__version__"}


def dependencies() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports anywhere, type checking included."""
    names = {
        ".".join(("mgdm_audio", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in PACKAGE.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): path for name, path in names.items()}

    def module(name: str) -> str:
        return name if name in modules else name.rpartition(".")[0]

    return {
        name: {module(each) for each in imports(path) if module(each) in modules} - {name}
        for name, path in modules.items()
    }


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next and the last the first; [] where there are none."""
    done: set[str] = set()

    def visit(name: str, above: list[str]) -> list[str]:
        if name in above:
            return above[above.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := visit(other, [*above, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


def test_no_module_imports_itself_through_others() -> None:
    graph = dependencies()
    assert circle(graph) == []
    # It would be found: a leaf that imports the top.
    assert circle(graph | {"mgdm_audio.errors": {"mgdm_audio.cli.main"}}) != []
