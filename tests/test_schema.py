"""The JSON schema of certificates: every certificate made fits it, and what does not is refused by the checker too."""

from __future__ import annotations

import importlib
import json
import re
from importlib import resources
from typing import Any

import pytest
import torch
from torch import nn

import stablenets as sn
from stablenets.certify import reading
from stablenets.networks import Network, Provable

SCHEMA = json.loads((resources.files("stablenets.certify") / "certificate.schema.json").read_text())
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}


def misfits(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """What is wrong with a value, for the keywords that the schema uses; any other keyword is an error."""
    if "$ref" in schema:
        return misfits(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], where)
    found: list[str] = []
    for keyword, rule in schema.items():
        match keyword:
            case "$schema" | "title" | "description" | "$defs" | "items" | "properties" | "additionalProperties":
                good = True
            case "type":
                good = isinstance(value, TYPES[rule]) and not (isinstance(value, bool) and rule != "boolean")
            case "const":
                good = value == rule and type(value) is type(rule)
            case "enum":
                good = value in rule
            case "pattern":
                good = not isinstance(value, str) or re.search(rule, value) is not None
            case "minimum":
                good = not isinstance(value, (int, float)) or value >= rule
            case "exclusiveMinimum":
                good = not isinstance(value, (int, float)) or value > rule
            case "minItems":
                good = not isinstance(value, list) or len(value) >= rule
            case "required":
                good = not isinstance(value, dict) or all(key in value for key in rule)
            case "anyOf":
                good = any(not misfits(value, part, where) for part in rule)
            case _:
                raise NotImplementedError(keyword)
        if not good:
            found.append(f"{where}: {keyword}")
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            found += misfits(item, schema["items"], f"{where}[{i}]")
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        for key, item in value.items():
            if key in known:
                found += misfits(item, known[key], f"{where}.{key}")
            elif isinstance(others, dict):
                found += misfits(item, others, f"{where}.{key}")
            elif not others:
                found.append(f"{where}: unknown {key}")
    return found


def certificates() -> list[Any]:
    """Of every provable network's examples, in both arithmetics, and of one with an unknown input."""
    found: list[Any] = []
    for name, cls in sorted(Network.registry.items()):
        if issubclass(cls, Provable):
            for i, net in enumerate(cls.examples()):
                for dtype in reading.DTYPES:
                    found.append(pytest.param(net, dtype, None, id=f"{name}-{i}-{dtype}"))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    return [
        *found,
        pytest.param(plain, "float64", None, id="plain"),
        pytest.param(plain, "float32", (4,), id="plain32"),
    ]


@pytest.mark.parametrize(("net", "dtype", "shape"), certificates())
def test_every_certificate_fits_and_is_verified(tmp_path, net, dtype, shape):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3).add_(0.05 * torch.randn_like(p))
    net.train().eval()
    sn.save(net, tmp_path / "m.safetensors")
    sn.certify(net, dtype=dtype, input_shape=shape).save(tmp_path / "c.json")
    assert misfits(json.loads((tmp_path / "c.json").read_text()), SCHEMA) == []
    verdict = sn.verify(tmp_path / "m.safetensors", tmp_path / "c.json")
    assert verdict.ok, verdict.reason


def test_the_three_lists_of_keys_are_one():
    """The schema, the code that writes and the checker were written apart."""
    checker = importlib.import_module("stablenets.certify.verify")
    assert set(SCHEMA["properties"]) == set(SCHEMA["required"]) == set(checker.KEYS)
    assert SCHEMA["title"] == checker.SCHEMA == reading.SCHEMA == SCHEMA["properties"]["schema"]["const"]
    assert set(SCHEMA["$defs"]["layer"]["properties"]) == set(checker.LAYER_KEYS)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("dtype",), "bfloat16"),
        (("classes",), 0),
        (("classes",), True),
        (("input", "norm_limit"), 0),
        (("input", "shape"), []),
        (("lipschitz",), "1"),
        (("head", "constants"), [[-1.0]]),
        (("layers", 0, "method"), None),
        (("layers", 0, "remark"), "trust me"),
        (("float32",), {}),
        (("versions", "torch"), 2),
        (("weights_sha256",), "xyz"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_checker(tmp_path, path, value):
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    sn.save(net, tmp_path / "m.safetensors")
    sn.certify(net).save(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (tmp_path / "c.json").write_text(json.dumps(content))
    assert misfits(content, SCHEMA)
    assert not sn.verify(tmp_path / "m.safetensors", tmp_path / "c.json").ok
