"""Errors to plant, a file for each part of the library; `tests/mutants.py` plants them."""
