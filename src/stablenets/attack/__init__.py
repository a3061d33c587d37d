"""Attacks: attempts to refute a classifier's answers, and any claim."""

from .adef import ADef as ADef
from .adef import Deformations as Deformations
from .apgd import APGD as APGD
from .base import Attack as Attack
from .base import Found as Found
from .carlini_wagner import CarliniWagner as CarliniWagner
from .curve import Curve as Curve
from .curve import attack_curve as attack_curve
from .curve import robust_curve as robust_curve
from .ddn import DDN as DDN
from .deep_fool import DeepFool as DeepFool
from .ensemble import Ensemble as Ensemble
from .fgsm import FGSM as FGSM
from .in_ball import BallAttack as BallAttack
from .minimal import MinimalAttack as MinimalAttack
from .pgd import PGD as PGD
from .refute import Refutation as Refutation
from .refute import refute as refute
from .smallest import Smallest as Smallest
from .smallest import smallest as smallest
from .square_attack import SquareAttack as SquareAttack
from .szegedy import Szegedy as Szegedy
from .victim import MaskingWarning as MaskingWarning
from .victim import Victim as Victim
