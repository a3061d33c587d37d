from .base import LinearMap as LinearMap
from .almost_orthogonal import AlmostOrthogonal as AlmostOrthogonal
from .conv import Conv1d as Conv1d
from .conv import Conv2d as Conv2d
from .deform import deform as deform
from .dense import Dense as Dense
from .skew import SkewConv2d as SkewConv2d
from .skew import SkewDense as SkewDense
