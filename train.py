"""``python train.py [overrides]`` is ``segframe train [overrides]``."""

import sys

from segframe.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
