"""The number ranges that configurable arguments are annotated with.

`segframe.config.schema` reads these names from a signature before anything heavy is imported, so an
argument's annotation is the one place that says which values a configuration key may take.
"""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

NonNegativeInt = Annotated[int, Ge(0)]
PositiveInt = Annotated[int, Ge(1)]
NonNegative = Annotated[float, Ge(0), Lt(float("inf"))]
Positive = Annotated[float, Gt(0), Lt(float("inf"))]
Fraction = Annotated[float, Ge(0), Le(1)]
BelowOne = Annotated[float, Ge(0), Lt(1)]
Byte = Annotated[int, Ge(0), Le(255)]
