"""Which files of a track's folder are its stems: the one rule for training and scoring."""

from pathlib import Path

from mgdm_audio.errors import UserError

STEM_SUFFIXES = (".wav", ".flac")  # in upper case too
MIXTURES = ("mixture", "mix")  # names of a file beside the stems that is no stem


def find_stems(folder: Path) -> dict[str, Path]:
    """Stem -> ``folder/<stem>.wav|flac``, sorted; hidden files and mixtures are left out.

    Raises UserError for a stem that is there twice: nothing says which of the files is meant.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in STEM_SUFFIXES or file.name[0] == "." or not file.is_file():
            continue
        if file.stem in found:
            raise UserError(
                f"{file}: the same stem is there as {file.suffix[1:]} "
                f"and as {found[file.stem].suffix[1:]}; remove one"
            )
        if file.stem not in MIXTURES:
            found[file.stem] = file
    return found
