"""How steps one after the other are differentiated: what is stored, and what is computed again."""

from .base import Backpropagation as Backpropagation
from .base import Gradient as Gradient
from .base import Trace as Trace
from .checkpointed import Checkpointed as Checkpointed
from .continuous_adjoint import ContinuousAdjoint as ContinuousAdjoint
from .discrete_adjoint import DiscreteAdjoint as DiscreteAdjoint
from .moves import Advance as Advance
from .moves import DenseMove as DenseMove
from .moves import Move as Move
from .reversible import Reversible as Reversible
