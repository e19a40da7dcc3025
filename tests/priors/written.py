"""The checkpoints in data/msdm.tar.xz, which MSDM's own training wrote; data/write.sh says how."""

import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).parent / "data" / "msdm.tar.xz"


def unpack(folder: Path) -> dict[str, Path]:
    """Unpacked into ``folder``: the checkpoints by name, and "expected", a file of safetensors."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    checkpoints = {path.parent.name: path for path in sorted(folder.glob("*/*.ckpt"))}
    return checkpoints | {"expected": folder / "expected.safetensors"}
