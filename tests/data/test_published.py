"""Every data set that ``prepare`` names, in its published form: its stems, and what is noted."""

import json
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from mgdm_audio.data import slakh
from mgdm_audio.data.mapping import load_mapping, plan
from mgdm_audio.data.plan import Source
from mgdm_audio.errors import UserError
from tests.data import published
from tests.data.data_sets import noise, put
from tests.data.running import check, prepare, prepared, said

IGNORED = [
    (f"stems/S{k:02d}.wav", "ignored", f"program {published.TRACK_1[k][1]} is of no stem")
    for k in (4, 5, 9, 10)
]
UNRENDERED = ("stems/S06", "unrendered", "audio_rendered is false")


def test_babyslakh_is_what_its_files_say(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    truth = published.babyslakh(tmp_path / "babyslakh_16k")
    out = tmp_path / "out"
    words = ("slakh", tmp_path / "babyslakh_16k", "-o", out, "--sample-rate", "16000")
    records = prepared(2, *words)
    assert sorted(records) == ["all/Track00001", "all/Track00002"]
    for name, stems in truth.items():
        check(out, records[f"all/{name}"], stems)
        assert said(records[f"all/{name}"]) == sorted([*IGNORED, UNRENDERED])
    assert "0 tracks made, 2 kept" in prepare(*words).stdout


def test_slakh2100_has_no_note_that_is_not_about_its_stems(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    truth = published.slakh2100(tmp_path / "slakh2100")
    words = ("slakh", tmp_path / "slakh2100", "-o", tmp_path / "out", "--sample-rate", "44100")
    records = prepared(3, *words)
    assert set(records) == set(truth)
    for name, stems in truth.items():
        check(tmp_path / "out", records[name], stems)
        flac = [(of.replace("wav", "flac"), what, why) for of, what, why in IGNORED]
        assert said(records[name]) == sorted([*flac, UNRENDERED])


def test_the_redux_prepares_with_its_odd_tracks(tmp_path: Path) -> None:
    """Track00446 lacks its first stem, Track00616 names a folder of another computer."""
    pytest.importorskip("yaml")
    truth = published.slakh2100_redux(tmp_path / "redux")
    words = ("slakh", tmp_path / "redux", "-o", tmp_path / "out", "--sample-rate", "44100")
    records = prepared(5, *words)
    assert set(records) == {*truth, "validation/Track01501"}  # and not those of "omitted"
    notes = {name: said(record, but="ignored") for name, record in records.items()}
    assert notes.pop("train/Track00446") == [
        ("stems/S00", "unrendered", "audio_rendered is false"),
        UNRENDERED,
    ]
    assert set(map(tuple, notes.values())) == {(UNRENDERED,)}
    for name, stems in truth.items():
        check(tmp_path / "out", records[name], stems)
    noted = [name for name, r in records.items() if "metadata.yaml" in [of for of, *_ in said(r)]]
    assert noted == ["train/Track00616"]
    assert "1 tracks made" in prepare(*words, "--splits", "omitted").stdout


@pytest.mark.parametrize("directory", ["stems", "Track00616/stems", "Track02100/stems"])
def test_published_forms_of_audio_dir_are_not_remarked_on(directory: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    published.slakh_track(tmp_path / "a", directory, True, 44100, "flac")
    assert not [d for d in slakh.plan(tmp_path / "a").decisions if d.of == "metadata.yaml"]


@pytest.mark.parametrize("directory", [published.ELSEWHERE, "stems/S00", "other", "3", "~"])
def test_another_audio_dir_is_noted_and_the_files_are_found(directory: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    published.slakh_track(tmp_path / "a", directory, True, 44100, "flac")
    found = slakh.plan(tmp_path / "a")
    (note,) = [d for d in found.decisions if d.of == "metadata.yaml"]
    assert note.why.endswith("the audio is in stems")
    assert [s.path for s in found.stems["bass"]] == ["stems/S03.flac"]


@pytest.mark.parametrize(
    ("there", "flag", "loudness", "what"),
    [
        (True, True, True, None),
        (True, False, True, None),  # BabySlakh
        (True, False, False, None),
        (False, True, True, "missing"),
        (False, True, False, "missing"),
        (False, False, True, "missing"),  # BabySlakh, of which a file was lost
        (False, False, False, "unrendered"),
    ],
)
def test_the_file_decides_and_the_flag_explains_a_missing_one(
    there: bool, flag: bool, loudness: bool, what: str | None, tmp_path: Path
) -> None:
    pytest.importorskip("yaml")
    published.slakh_track(tmp_path / "a", "stems", False, 16000, "wav")
    path = tmp_path / "a" / "metadata.yaml"
    head, bass = path.read_text().split("  S03:\n")
    if flag:
        bass = bass.replace("audio_rendered: false", "audio_rendered: true", 1)
    if not loudness:
        bass = bass.replace("    integrated_loudness: -21.676\n", "", 1)
    path.write_text(f"{head}  S03:\n{bass}")
    if not there:
        (tmp_path / "a" / "stems" / "S03.wav").unlink()
    found = slakh.plan(tmp_path / "a")
    assert found.stems["bass"] == ((Source("stems/S03.wav", 33),) if there else ())
    assert [d.what for d in found.decisions if d.of == "stems/S03"] == ([what] if what else [])


def test_a_file_that_the_metadata_do_not_list_is_left_out_and_noted(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    published.slakh_track(tmp_path / "a", "stems", False, 16000, "wav")
    put(tmp_path / "a" / "stems" / "S11.wav", noise(11, 400), 16000)
    found = slakh.plan(tmp_path / "a")
    assert [(d.what, d.why) for d in found.decisions if d.of == "stems/S11.wav"] == [
        ("ignored", "not in metadata.yaml")
    ]


def test_a_track_of_which_every_listed_file_is_lost_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    published.babyslakh(tmp_path / "baby")
    shutil.rmtree(tmp_path / "baby" / "Track00001" / "stems")
    for file in (tmp_path / "baby" / "Track00002" / "stems").iterdir():
        file.unlink()
    result = prepare("slakh", tmp_path / "baby", "-o", tmp_path / "out")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    for name, line in zip(("Track00001", "Track00002"), lines[:2], strict=True):
        assert line == (
            f"all/{name}: {tmp_path / 'baby' / name}: holds no rendered file of bass, drums, "
            "guitar, piano: stems has none of the 11 files that metadata.yaml lists; fetch the "
            "track again"
        )
    (name, _) = published.moisesdb(tmp_path / "moises").popitem()
    for file in (song := tmp_path / "moises" / "moisesdb_v0.1" / name).glob("*/*.wav"):
        file.unlink()
    with pytest.raises(UserError) as caught:
        plan(load_mapping("moisesdb"), song)
    assert str(caught.value) == (
        f"{song}: holds no wav or flac file of bass, drums, guitar, piano, vocals, other: the "
        "folder has none of the 8 files that data.json lists; fetch the track again"
    )


def test_the_stems_of_msdm_prepare_without_a_note_of_their_companions(tmp_path: Path) -> None:
    truth = published.msdm(tmp_path / "slakh2100")
    records = prepared(2, "slakh", tmp_path / "slakh2100", "-o", tmp_path / "out")
    assert set(records) == set(truth)
    for name, stems in truth.items():
        check(tmp_path / "out", records[name], stems)
    assert said(records["train/Track00001"]) == []
    assert said(records["test/Track01876"]) == [
        ("piano", "silent", "the track has no source of it")
    ]


def test_musdb18hq_has_notes_of_its_channels_alone(tmp_path: Path) -> None:
    truth = published.musdb18hq(tmp_path / "musdb18hq")
    out = tmp_path / "out"
    words = ("stems", tmp_path / "musdb18hq", "--map", "musdb18", "-o", out)
    records = prepared(2, *words, "--sample-rate", "44100")
    assert set(records) == set(truth)
    for name, stems in truth.items():
        check(out, records[name], stems)
        assert said(records[name], but="averaged") == []


@pytest.mark.parametrize("folder", [".", "moisesdb_v0.1"])
def test_moisesdb_prepares_from_either_of_its_folders(folder: str, tmp_path: Path) -> None:
    truth = published.moisesdb(tmp_path / "moisesdb")
    out = tmp_path / "out"
    words = ("stems", tmp_path / "moisesdb" / folder, "--map", "moisesdb", "-o", out)
    records = prepared(1, *words, "--sample-rate", "44100")
    for name, stems in truth.items():
        check(out, records[f"all/{name}"], stems)
        notes = said(records[f"all/{name}"], but="averaged")
        assert ("piano", "silent", "the track has no source of it") in notes
        bleeding = [what for _, what, why in notes if why == "data.json says so"]
        # Of the parts 1 to 8, has_bleed is true of 2, 5 and 8.
        assert bleeding == ["bleeds"] * 3
        assert len(notes) == 4
    assert "1 tracks made" in prepare(*words, "--splits", "test").stdout


def test_moisesdb_prepares_by_the_types_of_its_tracks(tmp_path: Path) -> None:
    """Its second level: kick and snare, and not the whole kit nor the percussion."""
    song = tmp_path / "moisesdb_v0.1" / "0a1cd98b-ba65-4bd5-9ca0-3f2e1f5ce5c1"
    kinds = ("kick_drum", "kick_drum", "snare_drum", "overheads", "full_acoustic_drumkit")
    sounds = [
        put(song / "drums" / f"{k}.wav", noise(k, 400, 2000), 44100) for k in range(len(kinds))
    ]
    parts = [
        {"id": str(k), "trackType": kind, "extension": "wav", "has_bleed": False}
        for k, kind in enumerate(kinds)
    ]
    listing = {"stems": [{"stemName": "drums", "tracks": parts}]}
    (song / "data.json").write_text(json.dumps(listing))
    out = tmp_path / "out"
    words = ("stems", tmp_path, "--map", "moisesdb-drums", "-o", out, "--sample-rate", "44100")
    record = prepared(1, *words)[f"all/{song.name}"]
    silence = np.zeros(400, np.int64)
    truth = {"kick": sounds[0] + sounds[1], "snare": sounds[2]}
    check(out, record, truth | dict.fromkeys(("hats", "toms", "cymbals"), silence))
    ignored = [(of, why) for of, what, why in said(record) if what == "ignored"]
    assert ignored == [
        ("drums/3.wav", "drums/3, drums/overheads: matches no stem"),
        ("drums/4.wav", "drums/4, drums/full_acoustic_drumkit: matches no stem"),
    ]


@pytest.mark.parametrize("folder", [".", "Audio"])
def test_medleydb_prepares_by_its_metadata(folder: str, tmp_path: Path) -> None:
    """Its stems by their instruments; one of two instruments of different stems is left out."""
    pytest.importorskip("yaml")
    truth = published.medleydb(tmp_path / "MedleyDB")
    out = tmp_path / "out"
    words = ("stems", tmp_path / "MedleyDB" / folder, "--map", "medleydb", "-o", out)
    records = prepared(2, *words, "--sample-rate", "44100")
    assert set(records) == {f"all/{name}" for name in truth}
    for name, stems in truth.items():
        check(out, records[f"all/{name}"], stems)
    tesla = [d[0::2] for d in said(records[f"all/{published.TESLA}"]) if d[1] == "ignored"]
    path = f"{published.TESLA}_STEMS/{published.TESLA}_STEM"
    assert tesla == [
        (f"{path}_03.wav", "Unlabeled: matches no stem"),
        (f"{path}_04.wav", "male singer, distorted electric guitar: of vocals and guitar"),
    ]
    bleeds = {name: [d[1] for d in said(r)].count("bleeds") for name, r in records.items()}
    # has_bleed is 'yes' of the first, which has five stems, and 'no' of the second.
    assert bleeds == {f"all/{published.BEATLES}": 5, f"all/{published.TESLA}": 0}


def test_medleydb_prepares_from_its_raw_files(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    published.medleydb(tmp_path)
    (mine := tmp_path / "mine.toml").write_text(
        'inside = "Audio"\nlisting = "medleydb-raw"\n[stems]\nkick = ["kick drum"]\n'
    )
    found = plan(load_mapping(str(mine)), tmp_path / "Audio" / published.TESLA)
    folder = f"{published.TESLA}_RAW/{published.TESLA}_RAW_01"
    assert [source.path for source in found.stems["kick"]] == [
        f"{folder}_01.wav",
        f"{folder}_02.wav",
    ]


def test_every_instrument_of_medleydb_is_of_one_stem() -> None:
    yaml = pytest.importorskip("yaml")
    stems = load_mapping("medleydb").stems

    def names(branch: object) -> set[str]:
        if isinstance(branch, str):
            return {branch}
        inner = branch.values() if isinstance(branch, dict) else branch
        return set().union(*map(names, inner))

    instruments = names(yaml.safe_load((published.MEDLEYDB / "taxonomy.yaml").read_text()))
    assert len(instruments) == 122
    for instrument in instruments - {"Main System", "Unlabeled", "crowd"}:
        claims = [s for s, own in stems.items() if any(fnmatchcase(instrument, p) for p in own)]
        assert len(claims) == 1, (instrument, claims)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stem_dir: Tesla_ModernDayCowboy_STEMS", "stem_dir: ../elsewhere"),
        ("filename: Tesla_ModernDayCowboy_STEM_01.wav", "filename: ../../x.wav"),
        ("filename: Tesla_ModernDayCowboy_STEM_01.wav", "filename: 3"),
        ("    instrument: drum set\n    raw", "    instrument: {a: b}\n    raw"),
        ("has_bleed: 'no'\n", ""),
    ],
)
def test_metadata_of_another_form_are_one_line(old: str, new: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    published.medleydb(tmp_path)
    path = tmp_path / "Metadata" / f"{published.TESLA}_METADATA.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match="is no metadata in MedleyDB's form; fetch it again"):
        plan(load_mapping("medleydb"), tmp_path / "Audio" / published.TESLA)
    path.unlink()
    with pytest.raises(UserError, match=r"METADATA\.yaml: cannot be read"):
        plan(load_mapping("medleydb"), tmp_path / "Audio" / published.TESLA)
