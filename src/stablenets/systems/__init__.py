from .oscillator import HarmonicOscillator as HarmonicOscillator
