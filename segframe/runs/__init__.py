"""Runs of the past: found, listed, compared; ``load`` gives them as a pandas DataFrame."""

from segframe.runs.load import load

__all__ = ["load"]
