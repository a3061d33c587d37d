"""The conformance suite: does a component keep the rules, and do its claims survive an attack? Also for your own."""

from .component import check_component as check_component
from .component import extension_points as extension_points
from .falsify import Attempt as Attempt
from .falsify import falsify as falsify
from .files import check_file as check_file
from .findings import Finding as Finding
