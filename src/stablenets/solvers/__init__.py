"""Initial value problems: states at given times, adaptive steps, and what became of every sample."""

from .integrate import integrate as integrate
from .solution import Solution as Solution
from .solution import Stats as Stats
from .solution import Status as Status
from .steps import steps as steps
