"""Which files of a folder are taken, under which names, and what is said of the rest."""

from pathlib import Path

import pytest

from mgdm_audio.audio.files import SUFFIXES, find_tracks
from mgdm_audio.errors import UserError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def take(*inputs: Path, output: Path = Path("/nowhere")) -> tuple[dict[str, str], list[str]]:
    """Name -> content, which is the file's name when it was made; and what was said."""
    said: list[str] = []
    tracks = find_tracks(inputs, output, said.append)
    names = [track.name for track in tracks]
    assert len(set(names)) == len(names)
    return {track.name: track.path.read_text() for track in tracks}, said


def test_every_format_of_the_reader_is_taken_in_either_case(tmp_path: Path) -> None:
    suffixes = (
        "wav flac mp3 ogg opus m4a m4b mov mkv mka tta mp2 wv aac wma webm aif caf w64 ape ts"
    )
    names = [f"{i}.{suffix}" for i, suffix in enumerate(suffixes.split())]
    touch(tmp_path, *names, "A.MP3", "B.MkV")
    found, said = take(tmp_path)
    assert set(found.values()) == {*names, "A.MP3", "B.MkV"}
    assert not said
    assert {f".{suffix}" for suffix in suffixes.split()} <= SUFFIXES


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "a.wav",
        "cover.jpg",
        "list.m3u",
        "._a.wav",
        ".DS_Store",
        ".git/b.wav",
        "out/c.wav",
    )
    found, said = take(tmp_path, output=tmp_path / "out")
    assert found == {"a": "a.wav"}
    rest = "._a.wav (hidden), .git (hidden), cover.jpg, list.m3u, out (the output)"
    assert said == [f"{tmp_path}: left out {rest}"]


def test_of_many_left_out_some_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", *(f"{i}.txt" for i in range(9)))
    assert take(tmp_path)[1] == [
        f"{tmp_path}: left out 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 4 more"
    ]


def test_links_are_followed_and_no_folder_is_entered_twice(tmp_path: Path) -> None:
    touch(tmp_path, "album/z_real/t.wav", "elsewhere/u.wav", "v.wav")
    album = tmp_path / "album"
    (album / "a_link").symlink_to(album / "z_real")  # comes first by name, and gives way
    (album / "disc2").symlink_to(tmp_path / "elsewhere")
    (album / "z_real" / "loop").symlink_to(album)
    (tmp_path / "elsewhere" / "back").symlink_to(album)
    (album / "w.wav").symlink_to(tmp_path / "v.wav")
    found, said = take(album)
    assert found == {
        "disc2/u": "elsewhere/u.wav",
        "w": "v.wav",
        "z_real/t": "album/z_real/t.wav",
    }
    why = "(a link to a folder that is read already)"
    assert said == [f"{album}: left out a_link {why}, disc2/back {why}, z_real/loop {why}"]


def test_names_that_differ_in_their_suffix_alone_keep_it(tmp_path: Path) -> None:
    touch(tmp_path, "song.wav", "song.mp3", "Other.wav", "other.flac", "third.wav", "b/song.wav")
    found, _ = take(tmp_path)
    assert found == {
        "song.wav": "song.wav",
        "song.mp3": "song.mp3",
        "Other.wav": "Other.wav",  # one folder, where case counts for nothing
        "other.flac": "other.flac",
        "third": "third.wav",
        "b/song": "b/song.wav",
    }
    assert take(tmp_path / "song.wav", tmp_path / "song.mp3")[0] == {
        "song.wav": "song.wav",
        "song.mp3": "song.mp3",
    }


def test_a_file_that_is_named_twice_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    assert take(tmp_path, tmp_path / "a.wav", tmp_path / "b.wav")[0] == {"a": "a.wav", "b": "b.wav"}


def test_a_link_to_nothing_is_taken_and_fails_when_it_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "b.wav").symlink_to(tmp_path / "gone.wav")
    assert [track.name for track in find_tracks([tmp_path], tmp_path / "out")] == ["a", "b"]


def test_a_folder_without_sound_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", ".b.wav")
    with pytest.raises(UserError, match="holds no sound file"):
        find_tracks([tmp_path], tmp_path / "out")
    touch(tmp_path, "a.wav")
    with pytest.raises(UserError, match="is the output folder as well"):
        find_tracks([tmp_path], tmp_path)
