from .base import LinearMap as LinearMap
from .conv import Conv2d as Conv2d
from .dense import Dense as Dense
