"""Whether a result is there already: the same input, settings and prior, and all of its files."""

import json
from pathlib import Path
from typing import Any

from mgdm_audio.audio.layout import Layout
from mgdm_audio.audio.stem_files import listed, read_record
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError

SETTINGS = (
    "version",
    "prior",
    "prior_sha256",
    "prior_config_sha256",
    "sampler",
    "options",
    "noise_std",
    "own_code_sha256",
    "start_from",
    "speeds",
    "draws",
    "keep_draws",
    "seed",
    "level",
    "segment_seconds",
    "overlap_seconds",
    "join",
    "precision",
    "two_stems",
    "subtype",
    "filename",
)
"""What decides the files' content. A device or a batch size changes their rounding at most."""


def is_done(layout: Layout, path: Path, wanted: dict[str, Any]) -> bool:
    """Whether what ``layout`` leads to is what separating ``path`` as ``wanted`` would write.

    The record must hold the ``SETTINGS`` of ``wanted`` and the hash of ``path``, and every file
    that it lists must be as it was written.
    """
    place = layout.root / layout.record
    record = read_record(place)
    asked = json.loads(json.dumps({key: wanted[key] for key in SETTINGS}))  # tuples become lists
    if {key: record.get(key) for key in SETTINGS} != asked:
        return False
    try:
        files = listed(place)
        return (
            record.get("input_sha256") == hash_file(path)
            and bool(files)
            and all(hash_file(file) == sha for file, sha in files.items())
        )
    except UserError:  # one of them cannot be read: separating it again tells why
        return False
