"""`verify` on certificates of denoisers: an independent norm, and forgeries."""

from __future__ import annotations

import copy
import json
from importlib import resources
from pathlib import Path

import pytest
import torch

from stablenets.certify.checker.denoiser import _norm
from stablenets.certify.checker.model_file import read_model
from stablenets.certify.denoiser import DenoiserCertificate
from stablenets.certify.verify import verify
from stablenets.cli import main
from stablenets.fields import SoftShrink
from stablenets.layers import save
from stablenets.networks import ChannelWise, EulerDenoiser


def trained_looking(**options) -> EulerDenoiser:
    torch.manual_seed(0)
    net = EulerDenoiser(**({"steps": 3, "filters": 8, "levels": (0.1, 0.5)} | options))
    for p in net.parameters():
        p.data += torch.randn_like(p) / 2
    return net.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    folder, net = tmp_path_factory.mktemp("net"), trained_looking()
    save(net, folder / "net.safetensors")
    DenoiserCertificate.of(net).save(folder / "net.json")
    return folder / "net.safetensors", folder / "net.json"


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 3, "width": 4},
        {"stride": 1, "kernel_size": 5},
        {"profile": SoftShrink()},
        {"levels": (0.2,)},
        {"group_size": 2},
    ],
    ids=lambda o: next(iter(o)),
)
def test_certificates_are_proved(options, tmp_path):
    net = trained_looking(**options)
    save(net, tmp_path / "n.safetensors")
    certificate = DenoiserCertificate.of(net)
    certificate.save(tmp_path / "n.json")
    verdict = verify(tmp_path / "n.safetensors", tmp_path / "n.json")
    assert verdict.ok and f"{certificate.alpha:.9g}-averaged" in verdict.reason, verdict.reason


def test_the_denoisers_of_the_package_are_proved(capsys):
    folder = Path(str(resources.files("stablenets.networks"))) / "weights"
    for model in folder.glob("*.safetensors"):
        with pytest.raises(SystemExit) as stop:
            main(["verify", str(model), str(model.with_suffix(".json"))])
        assert not stop.value.code and "OK: proved" in capsys.readouterr().out


def test_the_norm_is_tight_and_at_least_that_of_images(files):
    net, sizes = trained_looking(), {"kernel_size": 3, "stride": 2, "width": 1}
    model = read_model(files[0])
    for i, step in enumerate(net.anchored_steps()):
        proved, bank = _norm(model, i, sizes), step.field.linear
        bank.image_size = (40, 40)
        bank.input_shape = (1, 40, 40)
        x = torch.randn(1, 1, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
        w = bank.weight.double() * step.field.scale
        for _ in range(150):
            x = bank._adjoint(bank._forward(x / x.norm(), w), w)
        measured = float(x.norm()) ** 0.5
        assert 0.97 * proved < measured <= proved <= bank.norm_bound() * step.field.scale


def forged(change, files, tmp_path) -> str:
    content = json.loads(files[1].read_text())
    change(content)
    (tmp_path / "forged.json").write_text(json.dumps(content))
    verdict = verify(files[0], tmp_path / "forged.json")
    assert not verdict.ok
    return verdict.reason


FORGERIES = {
    "alpha": (lambda c: c.update(alpha=c["alpha"] * 0.9999), "below what is proved"),
    "alpha 1": (lambda c: c.update(alpha=1.0), "not below 1"),
    "alphas": (lambda c: c["alphas"].__setitem__(1, c["alphas"][1] * 0.9999), "noise level 0.5"),
    "one alpha": (lambda c: c["alphas"].pop(), "1 alphas for 2 levels"),
    "levels": (lambda c: c.update(levels=[0.1, 0.4]), "other noise levels"),
    "norm": (lambda c: c["steps"][1].update(norm=0.9), "step 1: the filters' norm"),
    "norm above 1": (lambda c: c["steps"][2].update(norm=1.1), "limit 1"),
    "steps": (lambda c: c["steps"].pop(), "2 steps"),
    "hash": (lambda c: c.update(weights_sha256="0" * 64), "other weights"),
    "unknown": (lambda c: c.update(more=1), "unknown key"),
    "text": (lambda c: c.update(alpha="0.5"), "not a number"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_certificates_are_rejected(name, files, tmp_path):
    change, reason = FORGERIES[name]
    assert reason in forged(change, files, tmp_path)


def _longer_step(net):
    net.anchored_steps()[0].tau_logit.data += 0.1


def _weaker_pull(net):
    net.anchored_steps()[1].theta_logit.data -= 0.1


def _larger_scale(net):
    net.anchored_steps()[1].field.scale *= 1.01


def _larger_filter(net):
    net.anchored_steps()[2].field.linear.weight.data *= 1.01


@pytest.mark.parametrize("change", [_longer_step, _weaker_pull, _larger_scale, _larger_filter])
def test_altered_weights_are_rejected_even_with_their_hash(change, files, tmp_path):
    """The alphas and norms of the certificate are those of the untouched network."""
    net = copy.deepcopy(trained_looking())
    change(net)
    save(net, tmp_path / "n.safetensors")
    content = json.loads(files[1].read_text()) | {"weights_sha256": read_model(tmp_path / "n.safetensors").sha256()}
    (tmp_path / "n.json").write_text(json.dumps(content))
    verdict = verify(tmp_path / "n.safetensors", tmp_path / "n.json")
    assert not verdict.ok and ("below what is proved" in verdict.reason or "filters' norm" in verdict.reason)
    assert not verify(tmp_path / "n.safetensors", files[1]).ok, "and with the old hash"


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda config, extra: config["profile"].update(type="SoftShrink"), "no network has groups"),
        (lambda config, extra: config.update(group_size=1), "the tensors are not those"),
        (lambda config, extra: config.update(levels=[0.5, 0.1]), "do not increase"),
        (lambda config, extra: config.update(profile={"type": "ReLU"}), "the activation 'ReLU'"),
        (lambda config, extra: extra.update({"blocks.7.field._extra_state": {"scale": 1.0}}), "the frozen scales"),
        (lambda config, extra: extra.pop("blocks.1.field._extra_state"), "the frozen scales"),
    ],
)
def test_altered_configurations_are_rejected_even_with_their_hash(change, reason, tmp_path):
    net = trained_looking(group_size=2)
    save(net, tmp_path / "n.safetensors")
    DenoiserCertificate.of(net).save(tmp_path / "n.json")
    data = (tmp_path / "n.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tags = header["__metadata__"]
    config, extra = json.loads(tags["config"]), json.loads(tags["extra"])
    change(config, extra)
    header["__metadata__"] = tags | {"config": json.dumps(config), "extra": json.dumps(extra)}
    text = json.dumps(header).encode()
    (tmp_path / "n.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    content = json.loads((tmp_path / "n.json").read_text())
    content |= {"weights_sha256": read_model(tmp_path / "n.safetensors").sha256(), "levels": config["levels"]}
    (tmp_path / "n.json").write_text(json.dumps(content))
    verdict = verify(tmp_path / "n.safetensors", tmp_path / "n.json")
    assert not verdict.ok and reason in verdict.reason


def test_another_network_is_not_covered(files, tmp_path):
    save(ChannelWise(trained_looking(), 3).eval(), tmp_path / "n.safetensors")
    content = json.loads(files[1].read_text()) | {"weights_sha256": read_model(tmp_path / "n.safetensors").sha256()}
    (tmp_path / "n.json").write_text(json.dumps(content))
    assert "not covered by the checker" in verify(tmp_path / "n.safetensors", tmp_path / "n.json").reason
