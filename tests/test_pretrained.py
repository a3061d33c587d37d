"""Networks as folders and hub repositories: what comes back is what went in, and needs no connection."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch
from torch import nn

import stablenets as sn
from stablenets.certify import Certificate, certify
from stablenets.core.errors import ClaimError, InputError
from stablenets.layers import Flow, weights_hash
from stablenets.networks import Network, NonExpansiveNet, ResNet

FILES = {"config.json", "model.safetensors", "certificate.json"}


@pytest.fixture
def net() -> NonExpansiveNet:
    net = NonExpansiveNet((1, 8, 8), 3, patch=2, blocks=(1,), hidden=6, dense_width=12, dense_blocks=1)
    for p in net.parameters():
        p.data += 0.5 * torch.randn_like(p)
    return net.eval()


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_trip_is_exact_and_the_certificate_holds_after_it(net: NonExpansiveNet, tmp_path: Path, dtype) -> None:
    net.to(dtype)
    proof = certify(net)
    folder = net.save_pretrained(tmp_path / "new" / "folder", certificate=proof)
    assert names(folder) == FILES
    twin = NonExpansiveNet.from_pretrained(folder)
    assert weights_hash(twin) == weights_hash(net) and not any(m.training for m in twin.modules())
    x = torch.rand(5, 1, 8, 8, dtype=dtype)
    assert torch.equal(twin(x), net(x))
    assert sn.verify(folder / "model.safetensors", folder / "certificate.json").ok
    again = Certificate.load(folder / "certificate.json", twin)
    assert torch.equal(again.radius(x), proof.radius(x))


def test_frozen_steps_are_those_that_were_saved_not_fresh_ones(net: NonExpansiveNet, tmp_path: Path) -> None:
    flows = [m for m in net.modules() if isinstance(m, Flow)]
    for flow in flows:
        flow.step_size *= 0.3  # shorter than a fresh freeze would take
    twin = Network.from_pretrained(net.save_pretrained(tmp_path))
    assert [m.step_size for m in twin.modules() if isinstance(m, Flow)] == [f.step_size for f in flows]
    assert json.loads((tmp_path / "config.json").read_text())["type"] == "NonExpansiveNet"


def test_the_certificate_of_other_weights_does_not_stay(net: NonExpansiveNet, tmp_path: Path) -> None:
    net.save_pretrained(tmp_path, certificate=certify(net))
    with torch.no_grad():
        next(net.parameters()).mul_(1.1)
    with pytest.raises(InputError, match=r"certificate is for other weights.*Certify it again"):
        net.save_pretrained(tmp_path, certificate=certify(NonExpansiveNet.from_pretrained(tmp_path)))
    assert names(tmp_path) == FILES, "nothing is touched by a call that fails"
    net.train().eval().save_pretrained(tmp_path)
    assert names(tmp_path) == FILES - {"certificate.json"}


def test_a_network_in_training_mode_has_no_frozen_steps_to_save(net: NonExpansiveNet, tmp_path: Path) -> None:
    net.body.layers[1].train()
    with pytest.raises(ClaimError, match=r"training mode.*Call net.eval\(\) first"):
        net.save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_the_kind_is_checked(net: NonExpansiveNet, tmp_path: Path) -> None:
    net.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"holds a NonExpansiveNet; needed: a ResNet\. Network.from_pretrained"):
        ResNet.from_pretrained(tmp_path)
    sn.save(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), tmp_path / "model.safetensors")
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="holds a Sequential; needed: a Network"):
        Network.from_pretrained(tmp_path)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["nobody/nothing", "no/such/folder", "..", "a b"])
def test_a_wrong_name_is_said_to_be_wrong(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"needed: a folder that save_pretrained has written. Check the name\."):
        Network.from_pretrained(name)


def test_damage_is_named(net: NonExpansiveNet, tmp_path: Path) -> None:
    net.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace('"patch": 2', '"patch": 4'))
    with pytest.raises(InputError, match=r"config.json and model.safetensors of .* are of different networks"):
        Network.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json is not readable"):
        Network.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-7])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        Network.from_pretrained(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file cannot be written|model.safetensors"):
        net.save_pretrained(tmp_path / "file")


def test_a_repository_of_the_hub_is_such_a_folder(
    net: NonExpansiveNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own functions are replaced: what is tested is what they are asked for."""
    asked: dict[str, object] = {}

    def create_repo(name: str, **options: object) -> str:
        asked["created"] = (name, options)
        return f"https://hub/{name}"

    def upload_folder(*, repo_id: str, folder_path: str, **options: object) -> None:
        asked["uploaded"] = (repo_id, options)
        (tmp_path / "hub").mkdir()
        for file in Path(folder_path).iterdir():
            (tmp_path / "hub" / file.name).write_bytes(file.read_bytes())

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked["downloaded"] = (name, revision, set(allow_patterns))
        return str(tmp_path / "hub")

    for function in (create_repo, upload_folder, snapshot_download):
        monkeypatch.setattr(huggingface_hub, function.__name__, function)
    assert net.push_to_hub("me/net", certificate=certify(net), private=True) == "https://hub/me/net"
    assert asked["created"] == ("me/net", {"private": True, "exist_ok": True})
    assert names(tmp_path / "hub") == FILES
    twin = Network.from_pretrained("me/net", revision="v1")
    assert weights_hash(twin) == weights_hash(net) and asked["downloaded"] == ("me/net", "v1", FILES)
