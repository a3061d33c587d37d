from .base import Network as Network
from .base import Provable as Provable
from .non_expansive import NonExpansiveNet as NonExpansiveNet
from .resnet import ResNet as ResNet
