"""Why a label map holds the values that it holds: the mistakes that people make, by their traces."""

from __future__ import annotations

from collections.abc import Mapping

from segframe.contracts import IGNORE_INDEX


def likely_cause(counts: Mapping[int, int], num_classes: int, is_identity: bool) -> str:
    """Returns the likely cause of labels out of range, and the YAML line that mends it.

    Args:
        counts: Pixels by source id, all of a file's or a data set's.
        num_classes: Classes K.
        is_identity: Whether ids are read as class ids, without a label_map.
    """
    values = set(counts)
    if not is_identity:
        return "Add them to label_map, as a class or as ignore, or correct the file."
    wrong = sorted(value for value in values if num_classes <= value != IGNORE_INDEX)
    listed = ", ".join(f"{value}: CLASS" for value in wrong[:4])
    return f"Correct the file, or say what they mean: label_map: {{..., {listed}}} (CLASS may be ignore)."
