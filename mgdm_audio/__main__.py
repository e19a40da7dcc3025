"""``python -m mgdm_audio``: the command line, where its script is not on the PATH."""

from mgdm_audio.cli.main import main

if __name__ == "__main__":
    main(prog_name="mgdm-audio")
