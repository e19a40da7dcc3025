"""Every commit that a document cites is in this history: whoever has the project can look at it."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HASH = r"(?<![\w-])[0-9a-f]{7,40}(?![\w-])"
MIXED = re.compile(r"(?=[0-9]*[a-f])(?=[a-f]*[0-9])" + HASH)  # neither a number nor a word
NAMED = re.compile(r"\bcommits?\s+(" + HASH + ")")
# Its name and hash, as the program writes them.
PRIOR = re.compile(r"(?:-v\d+|^prior [\w.-]+) \([0-9a-f]{12}\)", re.M)


def cited(text: str) -> set[str]:
    """The commits in a document; a prior's hash is none."""
    text = PRIOR.sub("", text)
    return {*(m[0] for m in MIXED.finditer(text)), *NAMED.findall(text)}


def words(path: Path) -> str:
    """A document's text; of a notebook, its sources and what they printed."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    parts = []
    for cell in json.loads(text)["cells"]:
        parts += cell["source"]
        for output in cell.get("outputs", []):
            parts += output.get("text", [])
            parts += output.get("data", {}).get("text/plain", [])
    return "".join(parts)


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def history(folder: Path) -> list[str]:
    """The commits that the one checked out in ``folder`` descends from, and itself."""
    return git(folder, "rev-list", "HEAD").split()


def unknown(hashes: set[str], commits: list[str]) -> set[str]:
    """Of the hashes, those that begin no commit, or more than one."""
    return {h for h in hashes if sum(c.startswith(h) for c in commits) != 1}


def why_no_history(folder: Path) -> str | None:
    """Why the commits of ``folder`` cannot be looked at, None where they can."""
    try:
        top, shallow = git(
            folder, "rev-parse", "--show-toplevel", "--is-shallow-repository"
        ).splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "no git history here"
    if Path(top).resolve() != folder.resolve():
        return "no git history of its own here"
    return "a shallow clone: git fetch --unshallow" if shallow == "true" else None


def test_every_commit_that_a_document_cites_is_in_the_history() -> None:
    if (reason := why_no_history(ROOT)) is not None:
        pytest.skip(reason)
    files = git(ROOT, "ls-files", "*.md", "*.ipynb").splitlines()
    commits = history(ROOT)
    found = {name: cited(words(ROOT / name)) for name in files}
    assert any(found.values())
    assert {n: bad for n, hashes in found.items() if (bad := unknown(hashes, commits))} == {}


def test_what_is_a_citation() -> None:
    text = """At commit 93d14cc (`default`: 142d9dc), of commits\n1234567, 0b1207e; prior
    mini-slakh-v2 (bf06b493dbe1), cpu. 1048576 samples, effaced, 2502.03332, 4.86e-05, x-1e7a6d7."""
    assert cited(text) == {"93d14cc", "142d9dc", "1234567", "0b1207e"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, and a third that only a branch beside them holds."""
    git(tmp_path, "init", "-q", "-b", "main")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for message in ("first", "second"):
        git(tmp_path, *who, "commit", "-q", "--allow-empty", "-m", message)
    git(tmp_path, "checkout", "-q", "-b", "aside")
    git(tmp_path, *who, "commit", "-q", "--allow-empty", "-m", "third")
    git(tmp_path, "tag", "aside-tip")
    git(tmp_path, "checkout", "-q", "main")
    return tmp_path


def test_a_commit_that_is_missing_or_no_ancestor_is_unknown(repository: Path) -> None:
    commits = history(repository)
    assert len(commits) == 2
    aside = git(repository, "rev-parse", "aside-tip").strip()
    missing = "0" * 40 if not commits[0].startswith("0") else "f" * 40
    given = {commits[0], commits[1][:12], aside[:12], missing}
    assert unknown(given, commits) == {aside[:12], missing}


def test_without_a_whole_history_there_is_a_reason(repository: Path, tmp_path: Path) -> None:
    assert why_no_history(repository) is None
    (inside := repository / "unpacked").mkdir()
    assert why_no_history(inside) == "no git history of its own here"
    git(tmp_path, "clone", "-q", "--depth", "1", repository.as_uri(), "clone")
    assert "shallow" in str(why_no_history(tmp_path / "clone"))
