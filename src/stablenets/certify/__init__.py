from .certificate import Certificate as Certificate
from .certificate import certify as certify
from .layer import FlowCertificate as FlowCertificate
from .layer import LayerCertificate as LayerCertificate
from .pixels import deformation_radius as deformation_radius
