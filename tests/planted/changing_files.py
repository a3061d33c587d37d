"""Errors planted into the reading of a model file that changes meanwhile."""

from __future__ import annotations

from .mutant import Mutant

READING = "certify/checker/model_file.py"

MUTANTS = (
    Mutant(
        "checker: a model file may shrink while it is read",
        READING,
        "if len(body) != size - 8 - length or file.read(1):",
        "if file.read(1):",
        ("test_changing_files.py", "-k", "shrinks"),
    ),
    Mutant(
        "checker: a model file may grow while it is read",
        READING,
        "if len(body) != size - 8 - length or file.read(1):",
        "if len(body) != size - 8 - length:",
        ("test_changing_files.py", "-k", "shrinks"),
    ),
    Mutant(
        "checker: the bytes after the header are read again",
        READING,
        "        body = file.read(size - 8 - length)\n",
        "        with open(path, 'rb') as again:\n            again.seek(8 + length)\n"
        "            body = again.read(size - 8 - length)\n            file.seek(size)\n",
        ("test_changing_files.py", "-k", "opened_once"),
    ),
)
