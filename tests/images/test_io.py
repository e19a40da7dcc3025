"""Image files: exact values in and out, what is done to fit a prior, and one line for the rest."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mgdm_audio.errors import UserError
from mgdm_audio.images import io as images
from mgdm_audio.images.io import png, read_image, read_observation

GREY, RGB = (1, 4, 6), (3, 4, 6)


def pixels(*shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_eight_bits_go_through_unchanged(tmp_path: Path) -> None:
    for shape, array in ((RGB, pixels(4, 6, 3)), (GREY, pixels(4, 6))):
        Image.fromarray(array).save(tmp_path / "a.png")
        x, changes = read_image(tmp_path / "a.png", shape)
        assert (tuple(x.shape), changes) == (shape, "")
        want = torch.from_numpy(array / 127.5 - 1).reshape(4, 6, -1).movedim(-1, 0)
        assert (x - want).abs().max() < 1e-7  # float32
        (tmp_path / "b.png").write_bytes(png(x))
        assert np.array_equal(np.array(Image.open(tmp_path / "b.png")), array)


def test_what_lies_beyond_the_range_is_clipped(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(torch.tensor([[[-3.0, -1, 0, 1, 1.5]]])))
    assert np.array(Image.open(tmp_path / "a.png")).tolist() == [[0, 0, 128, 255, 255]]


def test_sixteen_bits_of_grey_are_kept(tmp_path: Path) -> None:
    array = np.array([[0, 1, 256], [32768, 65279, 65535]], dtype=np.uint16)
    Image.fromarray(array).save(tmp_path / "a.png")
    x = read_image(tmp_path / "a.png", (1, 2, 3)).x
    assert (x[0] - torch.from_numpy(array / 32767.5 - 1)).abs().max() < 1e-7  # float32


def test_colour_and_grey_become_each_other(tmp_path: Path) -> None:
    array = pixels(4, 6, 3)
    Image.fromarray(array).save(tmp_path / "rgb.png")
    x, changes = read_image(tmp_path / "rgb.png", GREY)
    assert changes == "colour to grey"
    want = array @ np.array([0.299, 0.587, 0.114]) / 127.5 - 1
    assert (x[0] - torch.from_numpy(want)).abs().max() < 1e-6  # float32
    Image.fromarray(array[..., 0]).save(tmp_path / "grey.png")
    x, changes = read_image(tmp_path / "grey.png", RGB)
    assert changes == "grey to colour"
    assert torch.equal(x[0], x[1])
    assert torch.equal(x[0], x[2])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_on_white(tmp_path: Path, mode: str) -> None:
    array = pixels(4, 6, len(mode))
    array[..., -1] = 255
    array[0, 0, -1] = 0
    Image.fromarray(array, mode).save(tmp_path / "a.png")
    channels = len(mode) - 1
    x, changes = read_image(tmp_path / "a.png", (channels, 4, 6))
    assert changes == "composited on white"
    assert x[:, 0, 0].tolist() == [1.0] * channels
    want = torch.from_numpy(array[1:, :, :channels] / 127.5 - 1).movedim(-1, 0)
    assert (x[:, 1:] - want).abs().max() < 1e-6  # float32


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "HSV", "YCbCr"])
def test_other_kinds_of_colour_are_converted(tmp_path: Path, mode: str) -> None:
    white = Image.new("RGB", (6, 4), "white").convert(mode)
    name = "a.tif" if mode in ("CMYK", "YCbCr") else "a.png"
    (white.convert("RGB") if mode == "HSV" else white).save(tmp_path / name)
    if mode == "YCbCr":
        try:
            Image.open(tmp_path / name).load()
        except OSError:
            pytest.skip("Pillow before 13 cannot read the file that it writes")
    x = read_image(tmp_path / name, RGB).x
    assert x.min() > 0.98  # 254 of 255 after a change of colour space


def test_the_centre_is_cut_out_and_resized(tmp_path: Path) -> None:
    array = np.zeros((8, 20), dtype=np.uint8)
    array[:, 6:14] = 255  # the centred square is white
    Image.fromarray(array).save(tmp_path / "a.png")
    x, changes = read_image(tmp_path / "a.png", (1, 4, 4))
    assert changes == "centre 8 x 8 of 20 x 8 pixels, resized to 4 x 4"
    assert torch.equal(x, torch.ones(1, 4, 4))
    x = read_image(tmp_path / "a.png", (1, 16, 40)).x  # larger, and of the same proportions
    assert x.shape == (1, 16, 40)
    assert x.abs().max() <= 1  # bicubic overshoots; images do not


def test_the_camera_s_turn_is_undone(tmp_path: Path) -> None:
    array = pixels(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    x = read_image(tmp_path / "a.png", GREY).x
    assert (x[0] - torch.from_numpy(array[::-1, ::-1] / 127.5 - 1)).abs().max() < 1e-7  # float32


def test_arrays_are_images_too(tmp_path: Path) -> None:
    want = torch.linspace(-1, 1, 24).reshape(4, 6)
    np.save(tmp_path / "a.npy", want.numpy())
    assert torch.equal(read_image(tmp_path / "a.npy", GREY).x[0], want)


def test_an_observation_is_taken_as_it_is(tmp_path: Path) -> None:
    y = 3 * torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "y.npy", y.numpy())
    assert torch.equal(read_observation(tmp_path / "y.npy", (2, 5, 7)), y)
    Image.fromarray(pixels(4, 6)).save(tmp_path / "y.png")
    assert torch.equal(
        read_observation(tmp_path / "y.png", (3, 4, 6))[2],
        read_image(tmp_path / "y.png", GREY).x[0],
    )
    with pytest.raises(UserError, match=r"y.npy: has shape \(2, 5, 7\); an observation .* has \(1"):
        read_observation(tmp_path / "y.npy", (1, 5, 7))


def saved(array: object) -> Callable[[Path], object]:
    return lambda path: np.save(path, array, allow_pickle=True)  # type: ignore[arg-type]


BAD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no such file": ("a.png", lambda path: None),
    "cannot be read as an image (cannot identify image file)": (
        "b.png",
        lambda path: path.write_bytes(b"nothing"),
    ),
    "an image (": ("c.png", lambda path: path.write_bytes(png(torch.zeros(3, 9, 9))[:45])),
    "holds floating point": (
        "d.tif",
        lambda path: Image.fromarray(np.zeros((4, 4), np.float32)).save(path),
    ),
    "cannot be read as an array": ("e.npy", saved(np.array([{}], dtype=object))),
    "array of numbers (": ("f.npy", lambda path: path.write_bytes(b"nothing")),
    "not finite": ("g.npy", saved(np.full((4, 4), np.nan))),
    "up to 255": ("h.npy", saved(np.full((4, 4), 255.0))),
    "not (2, 2, 2, 2)": ("i.npy", saved(np.zeros((2, 2, 2, 2)))),
    "has 2 channels, the prior 3": ("j.npy", saved(np.zeros((2, 4, 4)))),
}


def npy(header: str) -> bytes:
    """As the format has it: a magic word, a version, the header's length, the header, no data."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",  # as a .npz begins
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }\n"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': ('a',), }\n"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"),
        npy("{'descr': '<c8', 'fortran_order': False, 'shape': (0,), }\n"),
        npy("(" * 9000),
        npy("\n"),
    ],
)
def test_what_is_no_array_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    for read in (read_image, read_observation):
        # numpy 2.0 reads a negative shape, as an array of no values.
        says = "cannot be read as an array of numbers|not finite, or none"
        with pytest.raises(UserError, match=says) as caught:
            read(tmp_path / "a.npy", (1, 4, 4))
        assert "\n" not in str(caught.value)


def test_a_pipe_in_place_of_an_array_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(UserError, match="no regular file"):
        read_observation(tmp_path / "a.npy", (1, 4, 4))


@pytest.mark.parametrize("says", BAD)
def test_what_is_no_image_is_named_in_one_line(tmp_path: Path, says: str) -> None:
    name, write = BAD[says]
    write(tmp_path / name)
    with pytest.raises(UserError) as caught:
        read_image(tmp_path / name, (3, 4, 4))
    message = str(caught.value)
    assert says in message
    assert message.startswith(str(tmp_path / name))
    assert "\n" not in message


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A PNG file of a few bytes may say any size; the numbers of its pixels take many gigabytes."""
    Image.new("L", (1, 1)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = (6000).to_bytes(4, "big") * 2  # IHDR: width, height, five bytes, checksum
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UserError, match=r"has 6000 x 6000 pixels, over the .* make it smaller"):
        read_image(tmp_path / "a.png", (1, 4, 4))


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"xmp": b"<x/>"}], ids=["VP8", "VP8L", "VP8X"]
)
def test_a_webp_of_too_many_pixels_is_refused_before_it_is_opened(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow allocates the pixels of a WebP file, of any of its three kinds, as it opens it."""
    path = tmp_path / "a.webp"
    Image.new("RGB", (300, 200), "red").save(path, **options)
    assert read_image(path, (3, 4, 6)).x.shape == (3, 4, 6)
    monkeypatch.setattr(images, "MOST", 300 * 200)
    assert read_image(path, (3, 4, 6)).x.shape == (3, 4, 6)
    monkeypatch.setattr(images, "MOST", 300 * 200 - 1)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(UserError, match="has 300 x 200 pixels"):
        read_image(path, (3, 4, 6))
