"""Every test is seeded; hypothesis draws the same examples on every machine."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

settings.register_profile("stablenets", deadline=None, derandomize=True, max_examples=15)
settings.load_profile("stablenets")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
