from .base import Network as Network
from .base import Provable as Provable
from .certified import CertifiedNet as CertifiedNet
from .convex_potential import ConvexPotentialNet as ConvexPotentialNet
from .inv_net import InvNet as InvNet
from .lipschitz_mlp import LipschitzMLP as LipschitzMLP
from .non_expansive import NonExpansiveNet as NonExpansiveNet
from .resnet import ResNet as ResNet
