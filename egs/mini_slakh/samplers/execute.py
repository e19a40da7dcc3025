"""Execute samplers.ipynb anew, and record in it what its outputs were made with.

    pip install '.[data]' nbclient ipykernel
    python egs/mini_slakh/samplers/execute.py

Executed wholly or not at all: a cell that fails leaves the file as it was. The record, "mgdm_audio"
in the notebook's metadata, has hashes of the cells' sources, of the presets that they name, and of
the default prior with its configuration; the tests compare it with the present ones.
"""

import re
import sys
from pathlib import Path
from typing import Any

from mgdm_audio import atomic
from mgdm_audio.digest import hash_json
from mgdm_audio.errors import UserError
from mgdm_audio.priors.folder import DEFAULT_PRIOR, load_prior
from mgdm_audio.samplers.presets import list_presets, load_preset
from mgdm_audio.separation.separator import DEFAULT_SAMPLER

NOTEBOOK = Path(__file__).resolve().parent / "samplers.ipynb"
sys.path.append(str(NOTEBOOK.parents[3] / "recipes/local"))
from script import run  # noqa: E402


def record(notebook: dict[str, Any]) -> dict[str, Any]:
    """What the outputs of these cells depend on, were they executed now, ready for JSON."""
    sources = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    words = {word for source in sources for word in re.findall(r'"([\w-]+)', source)}
    presets = [load_preset(name) for name in sorted({*words, DEFAULT_SAMPLER} & {*list_presets()})]
    prior = load_prior(DEFAULT_PRIOR)
    return {
        "cells": hash_json(sources),
        "presets": {p.name: hash_json([p.settings, p.draws, p.separation]) for p in presets},
        "prior": {prior.name: hash_json([prior.sha256, prior.config])},
    }


def main() -> None:
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install nbclient ipykernel") from None
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    client = NotebookClient(notebook, timeout=None, record_timing=False, resources=folder)
    try:
        client.execute()
    except CellExecutionError as error:
        raise UserError(f"{NOTEBOOK}: a cell failed, {error.ename}: {error.evalue}") from None
    notebook.metadata["mgdm_audio"] = record(notebook)
    atomic.write_text(NOTEBOOK, nbformat.writes(notebook) + "\n")


if __name__ == "__main__":
    run(main)
