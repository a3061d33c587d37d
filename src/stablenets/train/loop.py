"""The training loop."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..core.component import config
from ..core.errors import ClaimError, InputError, message
from ..data import DeviceLoader
from ..layers import Flow
from .constants import last_layer, score_constants
from .evaluate import device_of, fast_layout
from .interrupt import deferred_interrupt
from .keeper import Keeper
from .losses import Loss
from .progress import Epoch
from .schedule import Schedule, one_cycle


def fit(
    net: nn.Module,
    loss: Loss,
    loader: DeviceLoader,
    *,
    epochs: int,
    schedule: Schedule = one_cycle,
    weight_decay: float = 0.0,
    evaluate: Callable[[nn.Module], float] | None = None,
    evaluate_every: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    mixed_precision: bool = False,
    compile: bool = False,
) -> list[Epoch]:
    """Train a classifier with Adam, and leave it in evaluation mode with frozen steps.

    Nothing depends on a global random state: on a CPU, a training killed at any moment and resumed (with the same
    versions and number of threads) ends with bitwise the weights of an uninterrupted one. (A network with modules that
    draw from the global generator, such as dropout, gives that up.) Under `accelerate launch` or `torchrun` each
    process trains on its share of every batch.

    Args:
        net: from inputs (batch, ...) to scores (batch, classes); trained where its parameters are, with 4-D parameters
            laid out channels last.
        loss: what is minimised, besides weight_decay / 2 times the squared l2 norm of all parameters.
        loader: the training samples.
        schedule: learning rate as a function of step and total number of steps.
        evaluate: called with the network in evaluation mode after every `evaluate_every` epochs and after the last;
            what it returns becomes `Epoch.test_accuracy`. Leaving training mode costs up to a second (`Flow.freeze`).
        checkpoint: file for the state of the training, written at the start, after every epoch, and within epochs
            every `checkpoint_seconds`.
        resume: continue from `checkpoint`; start from the beginning where there is none yet.
        settings: whatever else the training depends on (data, seed of the weights), as JSON-able values. Resuming
            compares them, and this function's own arguments, with those of the checkpoint.
        on_step: called after each step with the steps done, their total, and the step's mean loss.
        on_epoch: called after each epoch, and on resuming first with each epoch that was done before, so that a log
            it writes from the start is whole.
        mixed_precision: train under bfloat16 autocast (see `fast_training_dtype`); never used for evaluation.
        compile: train with `torch.compile`. Of use only where no step follows the weights: a step that does is a number
            read from a tensor, which breaks the graph, and its changes exhaust the recompilation limit.

    Returns:
        One `Epoch` per epoch.

    Raises:
        InputError: an argument out of its range, or a checkpoint that cannot be used, written or overwritten.
        TrainingError: loss or weights are not finite, or a flow's step limit has vanished; the checkpoint is untouched.
        KeyboardInterrupt: after Ctrl-C, once the running step is done and the checkpoint is written.

    Reference: chapter 6.2 (Adam, one cycle, weight decay 1e-5).

    >>> from stablenets.layers import NormalisedHead
    >>> from stablenets.train import CrossEntropy
    >>> loader = DeviceLoader(torch.eye(3), torch.arange(3), batch_size=3)
    >>> [epoch.step for epoch in fit(NormalisedHead(3, 3), CrossEntropy(), loader, epochs=2)]
    [1, 2]
    """
    from accelerate import Accelerator  # here, to keep it out of the package's import time

    _check(epochs=(epochs, 1), evaluate_every=(evaluate_every, 1), weight_decay=(weight_decay, 0))
    # device and precision are the caller's choice, and no environment variable of accelerate changes them silently
    device = device_of(net)
    several_cpus = device.type == "cpu" and int(os.environ.get("WORLD_SIZE", "1")) > 1
    accelerator = Accelerator(mixed_precision="no", device_placement=False, cpu=several_cpus)
    rank, processes, main = accelerator.process_index, accelerator.num_processes, accelerator.is_main_process
    device = accelerator.device if processes > 1 else device
    net.to(device).train()
    net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (not in the overloads of torch)
    total, last = epochs * len(loader), last_layer(net)
    trained = [p for p in net.parameters() if p.requires_grad]
    adam = torch.optim.Adam(trained, lr=schedule(0, total), weight_decay=weight_decay, fused=True)
    known: dict[str, Any] = {}
    if checkpoint is not None:
        known = dict(settings or {}) | {
            "network": config(net),
            "loss": config(loss),
            "epochs": epochs,
            "steps per epoch": len(loader),
            "batch size": loader.batch_size,
            "data seed": loader.seed,
            "learning rates": [schedule(step, total) for step in (0, total // 4, total // 2, total - 1)],
            "weight decay": weight_decay,
            "mixed precision": mixed_precision,
        }
    keeper = Keeper(checkpoint, net, adam, known, seconds=checkpoint_seconds, writes=main)
    accelerator.wait_for_everyone()  # all have seen whether there is a checkpoint before one of them writes it
    progress = keeper.start(resume)
    if main and on_epoch:
        for epoch in progress.history:
            on_epoch(epoch)
    model, optimizer = accelerator.prepare(torch.compile(net) if compile else net, adam)
    with deferred_interrupt() as interrupted:
        for number in range(len(progress.history), epochs):
            for _, (xb, yb) in loader.epoch(number, start=progress.step - number * len(loader)):
                began = time.perf_counter()
                for group in optimizer.param_groups:
                    group["lr"] = schedule(progress.step, total)
                x, y = _share(xb, rank, processes).to(device), _share(yb, rank, processes).to(device)
                try:
                    with torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision):
                        scores = model(fast_layout(x))
                except (ClaimError, ArithmeticError) as error:  # weights so large that no step is allowed
                    raise keeper.stopped(f"{error} (step {progress.step + 1})") from error
                value = loss(scores, y, score_constants(last), progress.step / total)
                hits = (scores.detach().argmax(1) == y).sum()
                sums = torch.stack([value.detach() * len(y), hits, torch.full_like(hits, len(y))])
                loss_sum, correct, count = torch.as_tensor(accelerator.reduce(sums)).tolist()
                if not math.isfinite(loss_sum):
                    raise keeper.stopped(f"the loss is {loss_sum} at step {progress.step + 1} of {total}")
                optimizer.zero_grad()
                # the processes' gradients are averaged, so their losses are weighted by their shares of the batch
                accelerator.backward(value * (len(y) * processes / count) if processes > 1 else value)
                optimizer.step()
                progress.add(loss_sum, int(correct), int(count), time.perf_counter() - began)
                if main and on_step:
                    on_step(progress.step, total, loss_sum / count)
                if interrupted():
                    keeper.save(progress)
                    raise KeyboardInterrupt
                keeper.tick(progress)
            keeper.check(progress)
            flow_steps = [part.step_count for part in net.modules() if isinstance(part, Flow)]
            accuracy = None
            if evaluate and ((number + 1) % evaluate_every == 0 or number + 1 == epochs):
                net.eval()
                accuracy = evaluate(net)
                net.train()
            epoch = progress.finish(accuracy, schedule(progress.step - 1, total), flow_steps)
            keeper.save(progress)
            if main and on_epoch:
                on_epoch(epoch)
            if interrupted():
                raise KeyboardInterrupt
    net.eval()
    return progress.history


def _share(batch: Tensor, rank: int, processes: int) -> Tensor:
    """This process's part of a batch; all of it where there are fewer samples than processes."""
    return batch.tensor_split(processes)[rank] if processes <= len(batch) else batch


def _check(**values: tuple[float, float]) -> None:
    for name, (value, low) in values.items():
        if not low <= value < math.inf:
            raise InputError(message(f"{name}={value}", f"a number of at least {low}"))
