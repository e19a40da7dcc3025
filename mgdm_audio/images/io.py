"""Reads and writes image files as ``[channel, height, width]`` in [-1, 1]."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.reading import require_regular

MOST = 24_000_000  # pixels: with what Pillow and the resizing need, less than 1 GB


class Picture(NamedTuple):
    """An image in the shape of a prior, and how it was changed."""

    x: Tensor  # [channel, height, width] float32 in [-1, 1]
    changes: str  # one line for the user; empty if there were none


class _Pixels(NamedTuple):
    """What a file holds, before it takes eight bytes a number."""

    x: Tensor  # [channel, height, width] of the file's own type
    white: int  # its value for 1; 0: the numbers are in [-1, 1] already
    changes: list[str]

    def scaled(self) -> Tensor:
        """[channel, height, width] float64 in [-1, 1]."""
        return self.x.double() / (self.white / 2) - 1 if self.white else self.x


def read_image(path: str | Path, shape: Sequence[int]) -> Picture:
    """Reads an image file or a ``.npy`` array as ``shape: (channels, height, width)``.

    The largest centred crop with the right aspect ratio is resized (bicubic, antialiased). Colour
    is converted to grey by Rec. 601 and grey to colour by repetition; transparency is composited on
    white; the EXIF orientation is applied. Grey of 16 bits keeps its precision; Pillow reads 16-bit
    colour with 8. Arrays are ``[height, width]`` or ``[channel, height, width]`` in [-1, 1]. Raises
    UserError where a file cannot be read.
    """
    channels, height, width = shape
    found = _array(Path(path)) if Path(path).suffix == ".npy" else _decode(Path(path))
    changes, (tall, wide) = found.changes, found.x.shape[1:]
    if found.x.shape[0] != channels:
        changes.append("grey to colour" if channels == 3 else "colour to grey")
    if tall * width != wide * height:
        rows = min(tall, max(1, round(wide * height / width)))
        columns = min(wide, max(1, round(tall * width / height)))
        top, left = (tall - rows) // 2, (wide - columns) // 2
        found = found._replace(x=found.x[:, top : top + rows, left : left + columns])
        changes.append(f"centre {columns} x {rows} of {wide} x {tall} pixels")
    if found.x.shape[1:] == (height, width):
        x = found.scaled()
    else:
        changes.append(f"resized to {width} x {height}")
        alone = (found._replace(x=channel) for channel in found.x.split(1))
        x = torch.cat([_resized(channel.scaled()[None], height, width) for channel in alone])
    if x.shape[0] != channels:
        x = _recoloured(x, channels, path)
    return Picture(x.clamp(-1, 1).float(), ", ".join(changes))


def read_observation(path: str | Path, shape: Sequence[int]) -> Tensor:
    """Reads an observation of that ``shape`` without cropping, resizing or converting it.

    The file is a ``.npy`` array or, for a shape ``(1 or 3, height, width)``, an image. Raises
    UserError for another shape and for a file that cannot be read.
    """
    path, shape = Path(path), tuple(shape)
    if path.suffix == ".npy":
        x = _load(path)
    else:
        x = _decode(path).scaled()
        if x.shape[0] == 1 and shape[0] == 3:  # an image file may store equal channels once
            x = x.expand(3, -1, -1)
    if tuple(x.shape) != shape:
        raise UserError(f"{path}: has shape {tuple(x.shape)}; an observation of this task by this "
                        f"prior has {shape}")  # fmt: skip
    return x.float()


def read_kernel(path: str | Path) -> Tensor:
    """Reads a blur kernel of any size, divided by its sum: ``[2 r + 1, 2 q + 1]`` float64.

    The file is a ``.npy`` array ``[height, width]`` or a grey image whose black is 0. Its centre is
    at ``(height // 2, width // 2)``: a side of even length is padded by zeros at its end. Raises
    UserError for a file that cannot be read, another shape, a negative value, or zeros alone.
    """
    path = Path(path)
    if path.suffix == ".npy":
        kernel = _load(path)
    else:
        pixels = _decode(path)
        x = pixels.scaled()
        if len(x) != 1 or pixels.changes:
            raise UserError(f"{path}: a kernel is grey, without transparency; convert it to that")
        kernel = x[0] + 1
    if kernel.ndim != 2:
        raise UserError(f"{path}: has shape {tuple(kernel.shape)}; a kernel is [height, width]")
    if float(kernel.min()) < 0:
        raise UserError(f"{path}: holds {float(kernel.min()):g}; a kernel has no negative value")
    if float(kernel.sum()) == 0:
        raise UserError(f"{path}: all values are 0; a kernel has a positive sum")
    height, width = kernel.shape
    # Divided by its largest value first, because sums of very large values overflow.
    kernel = F.pad(kernel / kernel.max(), (0, 1 - width % 2, 0, 1 - height % 2))
    return kernel / kernel.sum()


def png(x: Tensor) -> bytes:
    """Encodes ``[1 or 3, height, width]`` in [-1, 1], clipped, as PNG."""
    pixels = ((x.detach().cpu().double().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    image = Image.fromarray((pixels[0] if len(x) == 1 else pixels.movedim(0, -1)).numpy())
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _load(path: Path) -> Tensor:
    try:
        array = np.asarray(np.load(require_regular(path), allow_pickle=False))
        if array.dtype.kind not in "biuf":  # of complex values NumPy would drop the imaginary part
            raise ValueError(f"values of type {array.dtype}")
        x = torch.from_numpy(array.astype(np.float64))
    except Exception as error:  # whatever a damaged or forged file leads to
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read as an array of numbers ({reason})") from None
    if not bool(x.isfinite().all()) or not x.numel():
        raise UserError(f"{path}: holds values that are not finite, or none")
    return x


def _array(path: Path) -> _Pixels:
    x = _load(path)
    x = x[None] if x.ndim == 2 else x
    largest = float(x.abs().max())
    if x.ndim != 3 or largest > 1:
        raise UserError(f"{path}: give an array [height, width] or [channel, height, width] "
                        f"in [-1, 1], not {tuple(x.shape)} up to {largest:g}")  # fmt: skip
    return _Pixels(x, 0, [])


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, (height, width), mode="bicubic", antialias=True)[0]


def _require_size(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MOST:
        raise UserError(
            f"{path}: has {width} x {height} pixels, over the {MOST} that are read; make it smaller"
        )


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height in the first bytes of a WebP file (RFC 9649), (0, 0) for another format.

    Pillow allocates its pixels, twice, before it says how many there are.
    """
    kind, data = head[12:16], head[20:32].ljust(12, b"\0")
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return 0, 0
    if kind == b"VP8X":
        sides = [int.from_bytes(data[at : at + 3], "little") for at in (4, 7)]
        return sides[0] + 1, sides[1] + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    sides = [int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8)]
    return sides[0], sides[1]


def _decode(path: Path) -> _Pixels:
    """Decodes an image file of 1 or 3 channels."""
    try:
        with require_regular(path).open("rb") as head:
            _require_size(path, _webp_size(head.read(32)))
        with Image.open(path) as file:
            _require_size(path, file.size)
            image = ImageOps.exif_transpose(file)
            image.load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = reason.replace(f" {str(path)!r}", "")
        raise UserError(f"{path}: cannot be read as an image ({reason})") from None
    changes: list[str] = []
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):  # Pillow's modes for grey of 16 bits
        return _Pixels(torch.from_numpy(np.array(image, dtype=np.int32))[None], 65535, changes)
    if image.mode == "F":
        raise UserError(f"{path}: holds floating point, of unknown range; give 8 or 16 bits, "
                        "or a .npy array in [-1, 1]")  # fmt: skip
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        grey = image.mode in ("L", "LA", "La")
        if np.asarray(rgba)[..., 3].min() < 255:
            changes.append("composited on white")
        white = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(white, rgba).convert("L" if grey else "RGB")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = torch.from_numpy(np.array(image))
    return _Pixels(pixels[None] if pixels.ndim == 2 else pixels.movedim(-1, 0), 255, changes)


def _recoloured(x: Tensor, channels: int, path: str | Path) -> Tensor:
    if len(x) == 1 and channels == 3:
        return x.expand(3, -1, -1)
    if len(x) == 3 and channels == 1:
        weights = torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype)  # Rec. 601
        return (weights[:, None, None] * x).sum(0, keepdim=True)
    raise UserError(f"{path}: has {len(x)} channels, the prior {channels}")
