"""How steps one after the other are differentiated: what is stored, and what is computed again."""

from .base import Backpropagation as Backpropagation
from .base import Gradient as Gradient
from .base import Move as Move
from .reversible import Reversible as Reversible
