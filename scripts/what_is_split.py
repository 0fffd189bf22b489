"""Draws docs/what_is_split.png: what each strategy splits over four ranks.

Usage: python scripts/what_is_split.py
"""

from pathlib import Path

from segframe.figures.what_is_split import what_is_split

PICTURE = Path(__file__).parents[1] / "docs/what_is_split.png"

if __name__ == "__main__":
    what_is_split(PICTURE)
    print(f"written: {PICTURE}")
