"""Accuracy, always in evaluation mode and always in the network's own precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def evaluate_accuracy(net: nn.Module, x: Tensor, y: Tensor, batch_size: int = 1000) -> float:
    """The share of samples x (n, ...) that `net` gives their label y (n,), in evaluation mode and without autocast.

    A network in training mode is switched to evaluation, which freezes the steps of its flows from rigorous bounds
    (up to a second for a large network), and back.

    >>> evaluate_accuracy(nn.Identity(), torch.eye(3), torch.tensor([0, 1, 1]))
    0.666...
    """
    device = device_of(net)
    training = net.training
    net.eval()
    correct = 0
    with torch.autocast(device.type, enabled=False):
        for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
            correct += int((net(fast_layout(xb.to(device))).argmax(1) == yb.to(device)).sum())
    net.train(training)
    return correct / len(y)


def device_of(net: nn.Module) -> torch.device:
    """Where the parameters are; the CPU for a network without any."""
    return next((p.device for p in net.parameters()), torch.device("cpu"))


def fast_layout(x: Tensor) -> Tensor:
    """Images (batch, C, H, W) with their channels last in memory, where convolutions are faster; others as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
