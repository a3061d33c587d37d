"""Reports: reads run folders and makes one self-contained page, or figures. Knows no model code."""

from .page import build as build
from .run import Run as Run
from .run import load_run as load_run
