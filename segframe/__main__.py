"""``python -m segframe``."""

import sys

from segframe.cli import main

if __name__ == "__main__":
    sys.exit(main())
