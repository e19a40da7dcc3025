"""Writes a listening page in each folder of a separated track, and an index of the pages."""

import os
from collections.abc import Callable
from pathlib import Path
from string import Template
from urllib.parse import quote

from mgdm_audio.atomic import write_text
from mgdm_audio.audio.files import find_stems
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.folders import score_track
from mgdm_audio.report.markup import clock, content_security_policy, framed, resource, text_of
from mgdm_audio.report.page import write_html
from mgdm_audio.report.run import Run, read_json, read_run, track_shape
from mgdm_audio.separation.result import RECORD

PAGE, INDEX = "report.html", "index.html"


def write_pages(
    folder: str | Path,
    reference: str | Path | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    on_error: Callable[[Path, Exception], None] | None = None,
) -> list[Path]:
    """Writes a page for the track ``folder``, or for every track in it and an index.

    ``reference``: true stems, ``<track>/<stem>.wav`` or the like, or those of the one track.
    ``on_progress(done, total)`` counts tracks. ``on_error(track, error)`` is called where the page
    of one of many cannot be made, and the others are; without it the error is raised. Raises
    UserError where there is no track.
    """
    folder = Path(folder)
    if (folder / RECORD).is_file():
        return [write_page(folder, reference)]
    tracks = _tracks(folder)
    if not tracks:
        raise UserError(
            f"{folder}: contains no {RECORD}, nor do folders in it; "
            "give a folder written by `mgdm-audio separate -o`"
        )
    written = []
    for done, track in enumerate(tracks, 1):
        truth = reference and Path(reference) / track.relative_to(folder)
        try:
            written.append(write_page(track, truth))
        except Exception as error:
            if on_error is None:
                raise
            on_error(track, error)
        if on_progress is not None:
            on_progress(done, len(tracks))
    return [*written, write_index(folder)]


def write_page(folder: str | Path, reference: str | Path | None = None) -> Path:
    """Writes ``report.html`` for the track in ``folder``, whole or not at all; returns its path.

    ``reference``: the folder of its true stems, or one with a folder of the track's name. Raises
    UserError for missing stems and for stems of another length.
    """
    folder = Path(folder)
    run = read_run(folder)
    scores = None if reference is None else _scores(run, Path(reference))
    write_html(folder / PAGE, run, scores, _mark(folder))
    return folder / PAGE


def ensure_page(folder: str | Path) -> Path | None:
    """Calls ``write_page`` unless there is a page of the result that is there."""
    page = Path(folder) / PAGE
    if page.is_file() and page.read_bytes().endswith(_mark(Path(folder)).encode()):
        return None
    return write_page(folder)


def _mark(folder: Path) -> str:
    """What a page ends with: of which record it is. Times would mislead after a clock went back."""
    return f"<!-- {RECORD}: {hash_file(folder / RECORD)} -->\n"


def write_index(folder: str | Path) -> Path:
    """Writes ``index.html`` with a link to every page in ``folder`` and returns its path."""
    folder = Path(folder)
    style = resource("page.css")
    rows = []
    for track in _tracks(folder):
        if (track / PAGE).is_file():
            name = track.relative_to(folder).as_posix()
            address = quote(os.fsencode(f"{name}/{PAGE}"))
            try:
                record = read_json(track / RECORD)
                shape = track_shape(track, record)
                length, sampler = clock(shape.time / shape.sample_rate), record.get("sampler")
            except UserError:  # of one of many, which says so when its page is made again
                length, sampler = "", f"{RECORD} is damaged"
            rows.append(
                f'<tr><td><a href="{address}">{text_of(name)}</a></td>'
                f'<td class="number">{length}</td><td>{text_of(sampler)}</td></tr>\n'
            )
    name = folder.resolve().name
    body = Template(resource("index.html")).substitute(name=text_of(name), rows="".join(rows))
    policy = content_security_policy(style)
    write_text(folder / INDEX, framed(name, body, style, policy=policy))
    return folder / INDEX


def _tracks(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: is {'not a folder' if folder.exists() else 'missing'}; check the path"
        )
    found = (record.parent for record in folder.rglob(RECORD))
    return sorted(t for t in found if not any(p[0] == "." for p in t.relative_to(folder).parts))


def _scores(run: Run, reference: Path) -> dict[str, object]:
    place = reference / run.name if (reference / run.name).is_dir() else reference
    if not place.is_dir():
        raise UserError(f"{place}: missing; it should contain the true stems of {run.name}")
    if len({*run.files.values()}) < len(run.files):
        raise UserError(f"{run.name}: has its stems in one file; scores need a file for each")
    truth = find_stems(place)
    if len(truth) < 2:
        raise UserError(f"{place}: contains {len(truth)} true stems, scores need two or more")
    for stem in truth:
        if stem not in run.files:
            raise UserError(f"{place / stem}: {run.name} has no such stem; remove it or rename it")
    return score_track(truth, {s: run.files[s] for s in truth}, ["si-sdri"], None)["si-sdri"]
