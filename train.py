"""``python train.py [overrides]`` is ``segframe train [overrides]``."""

import sys

from segframe.cli import main

if __name__ == "__main__":
    try:
        sys.exit(main(["train", *sys.argv[1:]]))
    except ModuleNotFoundError as error:
        if error.name not in ("hydra", "omegaconf", "torch", "pytorch_lightning"):
            raise
        sys.exit(
            f"{error.name} is not installed for {sys.executable}. `make train` installs everything into .venv; "
            "then `. .venv/bin/activate`, or run `.venv/bin/python train.py ...`."
        )
