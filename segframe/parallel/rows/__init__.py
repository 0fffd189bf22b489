"""Tensors whose rows are split over ranks."""

from segframe.parallel.rows import convolution as convolution
from segframe.parallel.rows import pooling as pooling
from segframe.parallel.rows import unpooling as unpooling
from segframe.parallel.rows.group import Rows
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, rule

__all__ = ["RowTensor", "Rows", "UnsplittableError", "rule"]
