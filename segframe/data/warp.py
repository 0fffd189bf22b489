"""Windows of an image and its mask, read and resampled once: the image bilinearly, the mask to the nearest pixel."""

from __future__ import annotations

from segframe.data.reading import Arrays, Pixels, Source
from segframe.data.turned import cut_turned
from segframe.data.upright import cut_upright
from segframe.data.window import Size, Window


def cut(image: Pixels, mask: Pixels, window: Window, size: Size, fill: tuple[int, ...]) -> tuple[Pixels, Pixels]:
    """Returns what a window shows of an image and its mask, resampled to ``size``.

    Every pixel of the result has one centre in the source. The label is that of the pixel which holds the
    centre, exactly. The colour is bilinear between the four pixels around the centre, of those that are
    read: an upright window's own, or the image's. A centre beyond the image gives ``fill`` and
    ``IGNORE_INDEX``. Only the window, or the upright rectangle around a turned one, is read.

    Args:
        image: (H, W, 3).
        mask: (H, W).
        window: What to show.
        size: Rows and columns of the result.
        fill: Red, green and blue of 0..255 of what lies beyond the image.
    """
    return cut_rows(Arrays(image, mask), window, size, fill, range(size[0]), range(size[0]))


def cut_rows(
    source: Source, window: Window, size: Size, fill: tuple[int, ...], image_rows: range, mask_rows: range
) -> tuple[Pixels, Pixels]:
    """Returns rows of what ``cut`` returns, to the bit, and reads only the rows of the source that these show.

    Labels are computed for these rows alone. OpenCV has no function that gives some rows of a resampled image as
    they are in the whole: its arithmetic depends on where an array begins. So colours are resampled as a whole, from
    an array in which nothing stands but what these rows show, and the rest is thrown away.

    Args:
        source: An image and its mask.
        window: What to show.
        size: Rows and columns of the whole result.
        fill: Red, green and blue of 0..255 of what lies beyond the image.
        image_rows: Which rows of the result's image.
        mask_rows: Which rows of the result's mask.
    """
    return (cut_turned if window.angle else cut_upright)(source, window, size, fill, image_rows, mask_rows)
