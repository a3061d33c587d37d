from .base import LinearMap as LinearMap
from .almost_orthogonal import AlmostOrthogonal as AlmostOrthogonal
from .conv import Conv1d as Conv1d
from .conv import Conv2d as Conv2d
from .dense import Dense as Dense
from .filter_bank import FilterBank as FilterBank
from .skew import SkewConv2d as SkewConv2d
from .skew import SkewDense as SkewDense
