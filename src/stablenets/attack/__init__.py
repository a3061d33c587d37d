"""Attacks: attempts to refute a classifier's answers, and any claim."""

from .adef import ADef as ADef
from .adef import Deformations as Deformations
from .base import Attack as Attack
from .base import Found as Found
from .curve import Curve as Curve
from .curve import robust_curve as robust_curve
from .pgd import PGD as PGD
from .refute import Refutation as Refutation
from .refute import refute as refute
from .victim import MaskingWarning as MaskingWarning
from .victim import Victim as Victim
