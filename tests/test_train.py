"""Losses, schedule, checkpoints, and the loop without interruptions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stablenets.core.errors import InputError, TrainingError
from stablenets.data import DeviceLoader
from stablenets.fields import ConvexGradient
from stablenets.integrators import Euler
from stablenets.layers import Flow, Lift, NormalisedHead
from stablenets.linear import Conv2d, Dense
from stablenets.train import (
    CrossEntropy,
    Loss,
    MultiMargin,
    checkpoint,
    evaluate_accuracy,
    fast_training_dtype,
    fit,
    one_cycle,
    triangular,
)
from stablenets.train.keeper import Keeper
from stablenets.train.progress import Progress


def scores_and_labels(batch: int = 7, classes: int = 5) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    scores = 3 * torch.randn(batch, classes, generator=g, dtype=torch.float64)
    return scores, torch.randint(classes, (batch,), generator=g)


def two_blobs(n: int = 60) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    y = torch.randint(2, (n,), generator=g)
    return torch.randn(n, 4, generator=g) + 3.0 * y[:, None], y


def small_net(seed: int = 0, time: float = 2.0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(Flow(ConvexGradient(Dense(4, 6)), Euler(), time=time), NormalisedHead(4, 2))


def image_net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        convolutional = Flow(ConvexGradient(Conv2d(5, 4, 3, 4)), Euler(), time=1.0)
        dense = Flow(ConvexGradient(Dense(80, 8)), Euler(), steps=1)
        return nn.Sequential(
            nn.PixelUnshuffle(2), Lift(4, 5), convolutional, nn.Flatten(), dense, NormalisedHead(80, 3)
        )


def images() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(4)
    return torch.rand(24, 1, 8, 8, generator=g), torch.randint(3, (24,), generator=g)


# schedule and precision


@pytest.mark.parametrize(("total", "warmup"), [(10, 0.3), (101, 0.3), (17, 0.55)])
def test_one_cycle_is_torchs(total: int, warmup: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=1e-2,
        total_steps=total,
        pct_start=warmup,
        div_factor=100,
        final_div_factor=1,
        cycle_momentum=False,
    )
    for step in range(total):
        assert one_cycle(step, total, warmup=warmup) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        if step < total - 1:
            theirs.step()


def test_one_cycle_at_the_edges() -> None:
    assert one_cycle(0, 1) == pytest.approx(1e-2)  # no room for a way up
    assert [one_cycle(s, 5, warmup=0.0) for s in (0, 4)] == pytest.approx([1e-2, 1e-4])
    assert [one_cycle(s, 5, warmup=1.0) for s in (0, 4)] == pytest.approx([1e-4, 1e-2])
    assert all(1e-4 <= one_cycle(s, 1000) <= 1e-2 for s in range(1000))


@pytest.mark.parametrize("total", [10, 1000, 997])
def test_triangular_is_the_published_interpolation(total: int) -> None:
    corners = ([0, 0.4 * total, 0.8 * total, total], [0, 3e-3, 3e-3 / 20, 0])
    for step in range(total):
        assert triangular(step, total, peak=3e-3) == pytest.approx(np.interp(step, *corners), rel=1e-9)


def test_fast_dtype_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        assert fast_training_dtype("cpu") is dtype


# checkpoints


def trained_state(net: nn.Module, x: Tensor, y: Tensor) -> torch.optim.Optimizer:
    net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        CrossEntropy()(net(x), y).backward()
        optimizer.step()
    return optimizer


def test_checkpoint_round_trip_is_bitwise(tmp_path) -> None:
    """Weights, buffers, frozen steps, Adam's state and progress, in place and in the same memory format."""
    net, (x, y) = image_net(), images()
    optimizer = trained_state(net, x, y)
    progress = Progress()
    progress.add(1 / 3, 2, 5, 0.1)
    progress.finish(None, 1e-3 / 7, [1, 2])
    progress.add(0.1, 1, 3, 0.2)
    checkpoint.save(tmp_path / "c", net, optimizer, progress, {"seed": 3, "shape": (1, 2)})

    other = image_net()
    for p in other.parameters():
        p.data.add_(1)
    other.to(memory_format=torch.channels_last)
    before = list(other.parameters())
    fresh = torch.optim.Adam(other.parameters(), lr=0.01, fused=True)
    assert checkpoint.load(tmp_path / "c", other, fresh, {"seed": 3, "shape": (1, 2)}) == progress
    assert all(a is b for a, b in zip(before, other.parameters(), strict=True))
    ours, theirs = checkpoint.state_tensors(net, optimizer), checkpoint.state_tensors(other, fresh)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert value.equal(theirs[key]), key
        assert value.stride() == theirs[key].stride(), key
    assert [m.get_extra_state() for m in net.modules() if isinstance(m, Flow)] == [
        m.get_extra_state() for m in other.modules() if isinstance(m, Flow)
    ]
    assert any(p.dim() == 4 and not p.is_contiguous() for p in other.parameters())
    trained_next = [trained_step(net, optimizer, x, y), trained_step(other, fresh, x, y)]
    assert all(a.equal(b) for a, b in zip(*trained_next, strict=True))
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def trained_step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> list[Tensor]:
    optimizer.zero_grad()
    CrossEntropy()(net(x), y).backward()
    optimizer.step()
    return list(net.parameters())


def test_bad_checkpoints_are_refused(tmp_path) -> None:
    net, (x, y) = small_net(), two_blobs()
    optimizer = trained_state(net, x, y)
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, net, optimizer, Progress(), {"margin": 0.5})
    good = path.read_bytes()

    def refused(match: str, settings=None, target: nn.Module | None = None) -> None:
        target = target or small_net()
        fresh = torch.optim.Adam(target.parameters(), fused=True)
        with pytest.raises(InputError, match=match):
            checkpoint.load(path, target, fresh, {"margin": 0.5} if settings is None else settings)

    refused(r"margin is 0.5 there and 0.3 here", {"margin": 0.3})
    refused("seed is null there and 1 here", {"margin": 0.5, "seed": 1})
    refused("does not fit this network", target=nn.Linear(4, 2))
    refused("does not fit this network", target=nn.Sequential(small_net()[0], NormalisedHead(4, 3)))
    for size in (0, 7, 100, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        refused("not a readable safetensors file")
    path.write_bytes(b"PK\x03\x04" + good)
    refused("not a readable safetensors file")
    save_file({"a": torch.zeros(1)}, path)
    refused("not a checkpoint of stablenets")
    path.write_bytes(good)
    lacking = load_file(path)
    lacking.pop("optim.1.exp_avg_sq")
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(lacking, path, metadata=metadata)
    refused("lacks optim.1.exp_avg_sq")
    path.unlink()
    refused("does not exist")
    with pytest.raises(InputError, match="cannot write"):
        checkpoint.save(tmp_path / "none" / "c", net, optimizer, Progress(), {})


def test_broken_state_is_not_kept(tmp_path) -> None:
    net, (x, y) = small_net(), two_blobs()
    optimizer = trained_state(net, x, y)
    keeper = Keeper(tmp_path / "c", net, optimizer, {})
    keeper.start(resume=False)
    good = (tmp_path / "c").read_bytes()
    next(iter(optimizer.state.values()))["exp_avg_sq"].view(-1)[0] = math.inf
    with pytest.raises(TrainingError, match=r"optim.0.exp_avg_sq is not finite after step 3.* of step 0, is .*c"):
        keeper.save(Progress(step=3))
    assert (tmp_path / "c").read_bytes() == good


# the loop


def test_fit_learns_and_reports() -> None:
    x, y = two_blobs()
    net, epochs, steps = small_net(), [], []
    history = fit(
        net, MultiMargin(0.5), DeviceLoader(x, y, 20, seed=1), epochs=12, evaluate_every=5,
        evaluate=lambda n: evaluate_accuracy(n, x, y), on_epoch=epochs.append,
        on_step=lambda step, total, loss: steps.append((step, total, loss)),
        schedule=lambda step, total: one_cycle(step, total, peak=0.1),
    )  # fmt: skip
    assert epochs == history and len(history) == 12
    assert [s[:2] for s in steps] == [(i + 1, 36) for i in range(36)]
    assert [e.test_accuracy is not None for e in history] == [(i + 1) % 5 == 0 or i == 11 for i in range(12)]
    last = history[-1]
    assert (last.epoch, last.step) == (12, 36) and last.lr == pytest.approx(1e-4)
    assert last.loss == pytest.approx(sum(s[2] for s in steps[-3:]) / 3) and last.loss < history[0].loss / 2
    assert last.test_accuracy is not None and last.test_accuracy > 0.9 and last.train_accuracy > 0.9
    assert last.flow_steps == [net[0].step_count] and last.flow_steps[0] > 0 and last.seconds > 0
    assert not net.training


def test_fit_is_adam_with_l2_weight_decay() -> None:
    """The loop against its plain transcription: unfused Adam, no accelerate, an ordinary loader."""
    x, y = images()
    net, plain = image_net(), image_net()
    loader = DeviceLoader(x, y, 8, seed=5)
    fit(net, CrossEntropy(), loader, epochs=2, weight_decay=0.01)
    optimizer = torch.optim.Adam(plain.parameters(), weight_decay=0.01, fused=False, foreach=False)
    for epoch in range(2):
        for step, (xb, yb) in loader.epoch(epoch):
            optimizer.param_groups[0]["lr"] = one_cycle(3 * epoch + step, 6)
            trained_step(plain, optimizer, xb, yb)
    for a, b in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class Curious(Loss):
    """Cross-entropy that keeps what it is told about the network and the training."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Tensor, float]] = []

    @classmethod
    def examples(cls):
        yield from ()

    def per_sample(self, scores: Tensor, labels: Tensor, constants: Tensor, progress: float) -> Tensor:
        self.told.append((constants, progress))
        return CrossEntropy().per_sample(scores, labels, constants, progress)


def test_losses_are_told_the_constants_of_the_head_and_how_far_training_is() -> None:
    x, y = two_blobs()
    for last in (NormalisedHead(4, 3), nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 3), nn.ReLU())):
        loss, flow = Curious(), small_net()[0]
        fit(nn.Sequential(flow, last), loss, DeviceLoader(x, y, 20), epochs=2, schedule=lambda *_: 0.0)
        assert [progress for _, progress in loss.told] == [k / 6 for k in range(6)]
        if isinstance(last, nn.Sequential):  # nothing is known: sqrt(2)
            assert all((told == told.new_full((3, 3), math.sqrt(2))).all() for told, _ in loss.told)
            continue
        rows = last.effective_weight() if isinstance(last, NormalisedHead) else last.weight
        expected = torch.stack([torch.stack([(a - b).norm() for b in rows]) for a in rows]).detach()
        for told, _ in loss.told:
            assert told.requires_grad
            torch.testing.assert_close(told.detach(), expected)


def test_fit_leaves_no_step_above_the_limit() -> None:
    """Frozen from the upper bound after training, whatever the estimate said during it."""
    x, y = two_blobs()
    net = small_net(time=5.0)
    fit(net, CrossEntropy(), DeviceLoader(x, y, 30), epochs=2, schedule=lambda step, total: 0.3)
    flow = net[0]
    assert flow.step_size <= 2 / flow.field.linear.norm_bound() ** 2
    assert flow.step_size * flow.step_count == pytest.approx(5.0)


def test_evaluation_does_not_change_training() -> None:
    x, y = two_blobs()
    weights = []
    for evaluate in (None, lambda n: evaluate_accuracy(n, x, y)):
        net = small_net()
        fit(net, CrossEntropy(), DeviceLoader(x, y, 20), epochs=3, evaluate=evaluate)
        weights.append(torch.nn.utils.parameters_to_vector(net.parameters()))
    assert weights[0].equal(weights[1])


def test_evaluation_is_never_in_low_precision() -> None:
    x, y = two_blobs()
    net, seen = small_net(), []
    hook = net.register_forward_hook(lambda module, args, out: seen.append((module.training, out.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        evaluate_accuracy(net, x, y)
    assert net.training
    fit(net, CrossEntropy(), DeviceLoader(x, y, 30), epochs=1, mixed_precision=True,
        evaluate=lambda n: evaluate_accuracy(n, x, y))  # fmt: skip
    hook.remove()
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}
    assert all(p.dtype == torch.float32 for p in net.parameters())


class Planted(Loss):
    """Cross-entropy that is `value` in call number `call`."""

    def __init__(self, call: int, value: float) -> None:
        super().__init__()
        self.call, self.value, self.calls = call, value, 0

    @classmethod
    def examples(cls):
        yield from ()

    def per_sample(self, scores: Tensor, labels: Tensor, constants: Tensor, progress: float) -> Tensor:
        self.calls += 1
        losses = CrossEntropy().per_sample(scores, labels, constants, progress)
        return losses * self.value if self.calls == self.call else losses


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_loss_stops_with_the_last_good_checkpoint(tmp_path, value: float) -> None:
    """Planted at step 8 = second step of epoch 3: the checkpoint of epoch 2 stays, byte by byte, and can be used."""
    x, y = two_blobs()
    path, kept = tmp_path / "checkpoint.safetensors", []
    net = small_net()
    with pytest.raises(
        TrainingError, match=r"loss is (nan|inf) at step 8 of 12; .* of step 6, is .*lower learning"
    ) as e:
        fit(net, Planted(8, value), DeviceLoader(x, y, 20), epochs=4, checkpoint=path,
            on_epoch=lambda epoch: kept.append(path.read_bytes()))  # fmt: skip
    assert "\n" not in str(e.value)
    assert len(kept) == 2 and path.read_bytes() == kept[-1]
    other = small_net()
    fit(other, Planted(99, value), DeviceLoader(x, y, 20), epochs=4, checkpoint=tmp_path / "whole")
    with pytest.raises(InputError, match="loss is"):
        fit(small_net(), CrossEntropy(), DeviceLoader(x, y, 20), epochs=4, checkpoint=path, resume=True)


@pytest.mark.parametrize("where", ["gradient", "weight"])
def test_runaway_weights_stop_too(tmp_path, where: str) -> None:
    """A finite loss with an infinite gradient, and weights beyond any step: stopped by name, nothing bad is written."""
    x, y = two_blobs()
    net = small_net()
    weight = net[0].field.linear.weight
    if where == "gradient":
        weight.register_hook(lambda g: g * math.inf)
    path = tmp_path / "c"

    def blow_up(step: int, total: int, loss: float) -> None:
        if where == "weight" and step == 2:
            weight.data.mul_(1e30)

    with pytest.raises(TrainingError, match=r"step .* is .*c\. Train anew"):
        fit(net, CrossEntropy(), DeviceLoader(x, y, 20), epochs=3, checkpoint=path, checkpoint_seconds=1e9,
            on_step=blow_up)  # fmt: skip
    assert all(v.isfinite().all() for v in load_file(path).values())


def test_fit_refuses_bad_arguments(tmp_path) -> None:
    x, y = two_blobs()
    loader = DeviceLoader(x, y, 20)
    for name, value in (("epochs", 0), ("weight_decay", -1.0), ("weight_decay", math.nan), ("evaluate_every", 0)):
        with pytest.raises(InputError, match=name):
            fit(small_net(), CrossEntropy(), loader, **{"epochs": 1, name: value})
    (tmp_path / "c").write_bytes(b"")
    with pytest.raises(InputError, match="c exists; needed"):
        fit(small_net(), CrossEntropy(), loader, epochs=1, checkpoint=tmp_path / "c")
    with pytest.raises(InputError, match="cannot write"):
        fit(small_net(), CrossEntropy(), loader, epochs=1, checkpoint=tmp_path / "none" / "c")
    with pytest.raises(InputError, match="Bilinear cannot be saved"):
        fit(nn.Bilinear(4, 4, 2), CrossEntropy(), loader, epochs=1, checkpoint=tmp_path / "d")


def test_convolutions_are_trained_channels_last() -> None:
    net, formats = image_net(), []
    conv = next(m for m in net.modules() if isinstance(m, Conv2d))
    conv.register_forward_hook(
        lambda m, args, out: formats.append(out.is_contiguous(memory_format=torch.channels_last))
    )
    fit(net, CrossEntropy(), DeviceLoader(*images(), 8), epochs=1)
    assert formats and all(formats)
