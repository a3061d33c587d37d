from .base import Loss as Loss
from .cross_entropy import CrossEntropy as CrossEntropy
from .cross_entropy import LogitAnnealing as LogitAnnealing
from .cross_entropy import OffsetCrossEntropy as OffsetCrossEntropy
from .hinge import MultiMargin as MultiMargin
from .radius import EMMA as EMMA
from .radius import CertificateRegularised as CertificateRegularised
