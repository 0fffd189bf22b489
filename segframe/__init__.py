"""segframe: one word changes where and how semantic segmentation runs, and the numbers stay the same."""

__version__ = "0.1.0"
