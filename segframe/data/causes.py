"""Why label maps hold the values that they hold: the mistakes that people make, by their traces."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from segframe.contracts import IGNORE_INDEX
from segframe.data.cause_rules import RULES, RULES_FOR_ANY_TABLE, Cause, Values, binary

_LONG_LINE = 400  # characters of YAML that an error of one file still shows


def likely_cause(counts: Mapping[int, int], num_classes: int, is_identity: bool) -> str:
    """Returns the likely cause of labels out of range, and the YAML line that mends it.

    Args:
        counts: Pixels by source id, all of a file's or a data set's.
        num_classes: Classes K.
        is_identity: Whether ids are read as class ids, without a label_map.
    """
    if not is_identity:
        return "Add them to label_map, as a class or as ignore, or correct the file."
    cause = explain(Values(counts, num_classes))
    return str(cause) if len(cause.line) < _LONG_LINE else f"{cause.what} `segframe data check` shows the whole line."


def explain(values: Values) -> Cause:
    """Returns the likely cause of labels out of range; where several are possible, all of them.

    Args:
        values: What files hold.
    """
    for rule in RULES if values.listed is None else RULES_FOR_ANY_TABLE:
        if (cause := rule(values)) is not None:
            return cause
    shown = values.wrong[:6]
    more = ", ..." if len(values.wrong) > len(shown) else ""
    line = f"label_map: {{..., {', '.join(f'{value}: CLASS' for value in shown)}{more}}}"
    if values.listed is not None:
        return Cause("Correct the files, or add to label_map what these mean (CLASS may be ignore):", line)
    return Cause(
        f"The values are {spans(sorted(values.counts))}; they may be ids of another numbering, ids of more than "
        f"{values.num_classes} classes, or grey values of a picture. Use other files, or say what each means "
        "(CLASS may be ignore):",
        line,
    )


def silent_cause(values: Values) -> Cause | None:
    """Returns what is wrong with values that are all allowed: binary masks whose 255 would be ignored."""
    return binary(values) if values.num_classes > 1 and set(values.counts) == {0, IGNORE_INDEX} else None


def is_train_ids(values: Collection[int], table: Mapping[int, int]) -> bool:
    """Returns whether a file seems to hold Cityscapes' trainIds where a table expects its labelIds.

    Both are allowed values: 0 to 18 are ids too, and 255 stands for licence plates, which the official files
    leave out.

    Args:
        values: What the file holds.
        table: Class id by source id.
    """
    from segframe.data.cityscapes import EVALUATED_IDS

    is_cityscapes = all(table.get(source) == label for label, source in enumerate(EVALUATED_IDS))
    found = set(values)
    return is_cityscapes and IGNORE_INDEX in found and max(found - {IGNORE_INDEX}, default=99) < len(EVALUATED_IDS)


TRAIN_IDS = Cause(
    "These seem to be trainIds, written over the labelIds: every class would be another one. Unpack the original "
    "label maps again, or call these files ..._labelTrainIds.png and set dataset.train.labels=labelTrainIds and "
    "dataset.val.labels=labelTrainIds."
)
"""What is wrong, and the remedy, where ``is_train_ids``."""


def spans(values: Sequence[int]) -> str:
    """Returns sorted numbers in words.

    >>> spans([0, 1, 2, 7, 255])
    '0 to 2, 7, 255'
    """
    found: list[list[int]] = []
    for value in values:
        if found and value == found[-1][1] + 1:
            found[-1][1] = value
        else:
            found.append([value, value])
    shown = [f"{first} to {last}" if last > first else str(first) for first, last in found]
    return ", ".join(shown) if len(shown) <= 12 else ", ".join([*shown[:10], f"... {shown[-1]}"])
