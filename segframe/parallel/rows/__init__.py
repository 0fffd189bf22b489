"""Tensors whose rows are split over ranks."""

from segframe.parallel.rows import along as along
from segframe.parallel.rows import convolution as convolution
from segframe.parallel.rows import copying as copying
from segframe.parallel.rows import dropout as dropout
from segframe.parallel.rows import elementwise as elementwise
from segframe.parallel.rows import global_pooling as global_pooling
from segframe.parallel.rows import norms as norms
from segframe.parallel.rows import padding as padding
from segframe.parallel.rows import pooling as pooling
from segframe.parallel.rows import resizing as resizing
from segframe.parallel.rows import shapes as shapes
from segframe.parallel.rows import slicing as slicing
from segframe.parallel.rows import unpooling as unpooling
from segframe.parallel.rows.group import Rows
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, rule

__all__ = ["RowTensor", "Rows", "UnsplittableError", "rule"]
