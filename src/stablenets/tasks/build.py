"""From options to the things they name: data, network, loss, device, threads."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from ..core.component import arguments, by_name
from ..core.errors import InputError, message
from ..data import ImageData, load_data
from ..networks import Network, made_for_images
from ..train import Loss, one_cycle, triangular
from ..train.schedule import Schedule
from .options import ClassifyConfig, Config

SIZES = ("patch", "channels", "blocks", "hidden", "dense_width", "dense_blocks", "time")
# option -> the arguments that it stands for
NETWORK_OPTIONS = {name: (name,) for name in (*SIZES, "depth", "rate", "mean", "truncated_head", "plain")} | {
    "flow_steps": ("steps",)
}
LOSS_OPTIONS = {name: (name,) for name in ("temperature", "radius", "gamma", "beta")} | {"margin": ("margin", "offset")}


def read_data(config: ClassifyConfig) -> ImageData:
    """The data of a config, limited to its number of training images."""
    return load_data(config.data).subset(train=config.train_limit)


def build_network(config: ClassifyConfig, data: ImageData) -> Network:
    """The network of a config, with the initial weights that its seed gives. The global random state is left alone.

    Raises:
        InputError: unknown name, or an option that the network does not have.
    """
    cls = by_name("network", made_for_images(), config.network)
    options = _given(f"network {config.network!r}", cls, config, NETWORK_OPTIONS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return cls(data.image_shape, len(data.classes), **options)


def build_loss(config: ClassifyConfig) -> Loss:
    """The loss of a config.

    Raises:
        InputError: unknown name, or an option that the loss does not have.
    """
    cls = by_name("loss", Loss.registry, config.loss)
    return cls(**_given(f"loss {config.loss!r}", cls, config, LOSS_OPTIONS))


def _given(what: str, cls: type, config: ClassifyConfig, options: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The arguments of `cls` that the config gives; those that it does not give have their defaults."""
    found, has = {}, arguments(cls)
    for option, names in options.items():
        if (value := getattr(config, option)) is None:
            continue
        fitting = [name for name in names if name in has]
        if not fitting:
            own = [o for o, names in options.items() if any(name in has for name in names)]
            todo = f"Leave it out; against a recipe or a file, write --{option.replace('_', '-')} none."
            raise InputError(message(f"the {what} has no option {option!r}", ", ".join(own) or "no option", todo))
        found |= dict.fromkeys(fitting, value)
    return found


def complete(config: ClassifyConfig) -> ClassifyConfig:
    """`config` with the defaults of its network and its loss written out, so that it says all that the run depends on.

    Raises:
        InputError: unknown name.
    """
    for kind, registry, chosen, options in (
        ("network", made_for_images(), config.network, NETWORK_OPTIONS),
        ("loss", Loss.registry, config.loss, LOSS_OPTIONS),
    ):
        parameters = inspect.signature(by_name(kind, registry, chosen)).parameters
        for option, names in options.items():
            for name in names:
                if getattr(config, option) is None and name in parameters:
                    config = replace(config, **{option: parameters[name].default})
    return config


def schedule(config: ClassifyConfig) -> Schedule:
    """The learning rate of a config as a function of the step."""
    if config.schedule == "triangular":
        return functools.partial(triangular, peak=config.peak)
    return functools.partial(one_cycle, low=config.low, peak=config.peak)


def find_device(config: ClassifyConfig) -> torch.device:
    """The device of a config.

    Raises:
        InputError: it is not on this machine.
    """
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        given = f"there is no device {config.device!r} ({str(error).splitlines()[0]:.60})"
        raise InputError(message(given, "a device of this machine, such as cpu")) from None
    return device


def thread_count(config: Config) -> int:
    """The threads to compute with: what the config says, else PyTorch's choice, one per core or OMP_NUM_THREADS."""
    most = 4 * (os.cpu_count() or 1)
    if (config.threads or 1) > most:
        raise InputError(message(f"threads={config.threads}", f"at most {most}, four per core"))
    return config.threads or torch.get_num_threads()


@contextlib.contextmanager
def threads(config: Config) -> Iterator[None]:
    """Compute with as many threads as the config says."""
    before = torch.get_num_threads()
    torch.set_num_threads(thread_count(config))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fingerprint(data: ImageData) -> str:
    """A short text that differs where training images or labels differ.

    >>> fingerprint(load_data("digits"))
    '1437 images, crc32 ...'
    """
    crc = 0
    for tensor in (data.x_train, data.y_train):
        crc = zlib.crc32(tensor.contiguous().numpy().data.cast("B"), crc)
    return f"{len(data.y_train)} images, crc32 {crc:08x}"
