from .certificate import Certificate as Certificate
from .certificate import FlowCertificate as FlowCertificate
from .certificate import LayerCertificate as LayerCertificate
from .certificate import certify as certify
