"""Trainings that are really killed, or interrupted, end with the weights of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import nn

from stablenets.data import DeviceLoader, ShiftFlip
from stablenets.fields import ConvexGradient
from stablenets.integrators import Euler
from stablenets.layers import Flow, Lift, NormalisedHead
from stablenets.layers.files import weights_hash
from stablenets.linear import Conv2d, Dense
from stablenets.train import Epoch, MultiMargin, fit
from stablenets.train.interrupt import deferred_interrupt

EPOCHS, KILLS = 3, 7


def digits(seed: int = 0) -> DeviceLoader:
    raw = load_digits()
    x = torch.tensor(raw.images[:320], dtype=torch.float32)[:, None] / 16
    y = torch.tensor(raw.target[:320])
    return DeviceLoader(x, y, 32, seed=seed, augment=ShiftFlip(shift=1, flip=False))


def new_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.PixelUnshuffle(2),
            Lift(4, 6),
            Flow(ConvexGradient(Conv2d(6, 8, 3, 4)), Euler(), time=2.0),
            nn.Flatten(),
            Flow(ConvexGradient(Dense(96, 16)), Euler(), steps=1),
            NormalisedHead(96, 10),
        )


def train(path: Path | None, *, resume: bool = False, seconds: float = 0.0, on_epoch=None, on_step=None) -> nn.Module:
    net = new_net()
    fit(net, MultiMargin(0.3), digits(), epochs=EPOCHS, weight_decay=1e-5, checkpoint=path, resume=resume,
        checkpoint_seconds=seconds, on_epoch=on_epoch, on_step=on_step)  # fmt: skip
    return net


@pytest.fixture(scope="module")
def undisturbed() -> str:
    return weights_hash(train(None))


def program(task: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run this file as a program of its own that never computes, so that each of its forks is fresh for torch."""
    source = str(Path(__file__).parents[1] / "src")
    paths = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, __file__, task, str(path)]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=240)


def test_killed_at_any_moment_ends_bitwise_equal(tmp_path, undisturbed: str) -> None:
    """SIGKILL at random moments, also while checkpoints are written (at every step here); see `killed` below."""
    done = program("killed", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    *steps, final = done.stdout.split()
    assert final == undisturbed
    assert len(set(steps)) >= 3, f"the kills hit too few states: {steps}"


def killed(path: Path) -> None:
    """Train in child processes, of which the first ones are killed; print the step of each, then the final hash."""
    rng = random.Random(1)
    for kill in [True] * KILLS + [False]:
        before = changed(path)
        child = os.fork()
        if child == 0:
            print(weights_hash(train(path, resume=True)), flush=True)
            os._exit(0)
        ended, status = 0, 0
        while kill and not ended and changed(path) == before:  # until it has started and come at least one step on
            time.sleep(0.002)
            ended, status = os.waitpid(child, os.WNOHANG)
        if kill and not ended:
            time.sleep(rng.uniform(0, 0.08))
            os.kill(child, signal.SIGKILL)
        if not ended:
            status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
        with safe_open(path, "pt") as file:
            print(json.loads(file.metadata()["state"])["progress"]["step"], flush=True)


def changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.parametrize("step", [1, 13, 20, 3 * 10])
def test_ctrl_c_leaves_the_exact_step(tmp_path, undisturbed: str, step: int) -> None:
    """After the step under way, in the middle or at the end of an epoch, and the history is whole in the end."""
    path, epochs, steps = tmp_path / "c", [], []

    def press(done: int, total: int, loss: float) -> None:
        steps.append(done)
        if done == step:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(path, seconds=1e9, on_step=press)
    assert steps[-1] == step
    steps.clear()
    net = train(path, resume=True, on_epoch=epochs.append, on_step=lambda done, total, loss: steps.append(done))
    assert steps == list(range(step + 1, EPOCHS * 10 + 1))
    assert weights_hash(net) == undisturbed
    assert [e.epoch for e in epochs] == [1, 2, 3] and [e.step for e in epochs] == [10, 20, 30]
    whole: list[Epoch] = []
    train(None, on_epoch=whole.append)
    assert [(e.loss, e.train_accuracy, e.flow_steps) for e in epochs] == [
        (e.loss, e.train_accuracy, e.flow_steps) for e in whole
    ]


def test_ctrl_c_while_evaluating(tmp_path) -> None:
    """The epoch is closed and kept first."""
    net, path = new_net(), tmp_path / "c"

    def evaluate(n: nn.Module) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        return 0.5

    epochs: list[Epoch] = []
    with pytest.raises(KeyboardInterrupt):
        fit(net, MultiMargin(), digits(), epochs=2, checkpoint=path, evaluate=evaluate, on_epoch=epochs.append)
    assert [e.test_accuracy for e in epochs] == [0.5]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resuming_a_finished_training_changes_nothing(tmp_path, undisturbed: str) -> None:
    train(tmp_path / "c")
    before, epochs = (tmp_path / "c").read_bytes(), []
    assert weights_hash(train(tmp_path / "c", resume=True, on_epoch=epochs.append)) == undisturbed
    assert (tmp_path / "c").read_bytes() == before and len(epochs) == EPOCHS


def test_second_ctrl_c_is_not_deferred() -> None:
    with pytest.raises(KeyboardInterrupt), deferred_interrupt() as interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_handlers_and_threads_are_left_alone() -> None:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup
    try:
        with deferred_interrupt() as interrupted:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN and not interrupted()
    finally:
        signal.signal(signal.SIGINT, previous)
    answers: list[bool] = []

    def run() -> None:
        with deferred_interrupt() as interrupted:
            answers.append(interrupted())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert answers == [False]


def test_two_processes_share_the_batches(tmp_path) -> None:
    """They end with the weights of one process but for rounding; one of them writes the checkpoint."""
    done = program("shared", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    history = [Epoch(**epoch) for epoch in json.loads(done.stdout)]
    alone: list[Epoch] = []
    net = train(tmp_path / "alone", on_epoch=alone.append)
    assert [e.step for e in history] == [e.step for e in alone]
    assert [e.loss for e in history] == pytest.approx([e.loss for e in alone], rel=1e-4)
    weights = load_file(tmp_path / "c")
    for name, p in net.named_parameters():
        torch.testing.assert_close(weights[f"model.{name}"], p.detach(), rtol=1e-3, atol=1e-4)


def shared(path: Path) -> None:
    """Train in two processes, as a launcher such as torchrun starts them; the first one prints its history."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    children = []
    for rank in "01":
        children.append(os.fork())
        if children[-1] == 0:
            os.environ.update(here | {"RANK": rank, "LOCAL_RANK": rank})
            epochs: list[Epoch] = []
            train(path, on_epoch=epochs.append)
            if epochs:
                print(json.dumps([asdict(epoch) for epoch in epochs]), flush=True)
            os._exit(0)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))


if __name__ == "__main__":
    import accelerate  # noqa: F401 (imported once, not in each child)

    torch.optim.Adam([torch.zeros(1)])  # imports two seconds' worth of modules
    {"killed": killed, "shared": shared}[sys.argv[1]](Path(sys.argv[2]))
