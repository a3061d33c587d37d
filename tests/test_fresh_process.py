"""What must work as the first thing a new process does: nothing else has been imported yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stablenets.layers import save
from stablenets.networks import NonExpansiveNet, ResNet


@pytest.mark.parametrize("cls", [NonExpansiveNet, ResNet])
def test_a_model_loads_before_its_class_was_imported(tmp_path, cls):
    save(next(cls.examples()), tmp_path / "model.safetensors")
    code = f"import stablenets as sn; print(type(sn.load({str(tmp_path / 'model.safetensors')!r})).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == cls.__name__, done.stderr


@pytest.mark.parametrize("first", ["sn.certify", "sn.verify", "sn.attack.PGD", "sn.fields.Field", "sn.Lipschitz"])
def test_every_public_name_works_first(first):
    code = f"import stablenets as sn; import stablenets.certify; assert callable({first}), {first}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
