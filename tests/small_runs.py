"""Run folders of networks that were trained for a moment, for the tests of tasks, studies and the command line."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from stablenets.tasks import classify
from stablenets.tasks.options import ClassifyConfig
from stablenets.tasks.run_folder import Run

TINY = ClassifyConfig(
    data="digits", epochs=1, patch=2, blocks=(1,), hidden=8, dense_width=16, dense_blocks=1, test_limit=40,
    attack_steps=5, radii=(0.1, 0.3, 0.6), threads=1,
)  # fmt: skip
# the same on the command line
WORDS = "--data digits --epochs 1 --patch 2 --blocks 1 --hidden 8 --dense-width 16 --dense-blocks 1 --test-limit 40 "
WORDS += "--attack-steps 5 --radii 0.1 0.3 0.6 --threads 1"


@functools.cache
def finished(network: str = "non-expansive-net") -> Run:
    """A finished run, made once; do not change it."""
    from dataclasses import replace

    folder = Path(tempfile.mkdtemp()) / network
    return classify.run(replace(TINY, network=network, out=str(folder)))


def copied(folder: Path, network: str = "non-expansive-net") -> Run:
    """A finished run, to be changed."""
    return Run(Path(shutil.copytree(finished(network).path, folder / network)))
