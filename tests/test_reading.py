"""What a file of ours may be instead is one of two errors, at once."""

import os
from pathlib import Path

import pytest

from mgdm_audio import reading
from mgdm_audio.config import ConfigError, apply_overrides, load_toml
from mgdm_audio.reading import parse, read_json

BAD = {
    b"": "Expecting value",
    b'"\xff"': "utf-8",
    b'{"a": NaN}': "NaN is no number of JSON",
    b"[-Infinity]": "-Infinity is no number",
    b'{"a": 1e999}': "1e999 is too large",
    b"1" + b"0" * 20: "is too large",
    b"1" * 5000: "is too large",  # more digits than Python reads
    b"[" * 100_000: "nested too deeply",
    b'{"a": [1, 2': "delimiter",  # cut short
    b'{"a": 1, "b": {"a": 2, "c": 3, "a": 2}}': "'a' is there twice",
}


@pytest.mark.parametrize("content", BAD, ids=lambda content: content[:9].decode("latin-1"))
def test_what_is_no_json_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=BAD[content]):
        read_json(tmp_path / "a.json")


def test_json_is_read() -> None:
    text = '{"a": [1, -2.5, "\\u00fc", null, true], "b": 9223372036854775807}'
    assert parse(text) == {"a": [1, -2.5, "ü", None, True], "b": 2**63 - 1}
    assert parse('"\\udcff"') == "\udcff"  # a byte of a file's name that is no UTF-8


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match="no regular file"):
            read_json(path)
        with pytest.raises(ConfigError, match="cannot be read: no regular file"):
            load_toml(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")


def test_a_file_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGEST", 10)
    (tmp_path / "a").write_text('"12345678"')
    assert read_json(tmp_path / "a") == "12345678"
    (tmp_path / "a").write_text('"123456789"')
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        read_json(tmp_path / "a")


@pytest.mark.parametrize(
    "text", [b"a = " + b"[" * 50_000, b"a = " + b"9" * 5000, b"a = \xff", b"a = 1\na = 2", b"\x00"]
)
def test_what_is_no_toml_is_one_line(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(text)
    with pytest.raises(ConfigError, match=r"a.toml: not TOML") as caught:
        load_toml(tmp_path / "a.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 50_000, "9" * 5000])
def test_an_override_that_is_no_toml_is_a_text(text: str) -> None:
    assert apply_overrides({}, [f"a={text}"]) == {"a": text}
