"""From options to the things they name: data, network, loss, device, threads."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator

import torch

from ..core.component import arguments, by_name
from ..core.errors import InputError, message
from ..data import ImageData, load_data
from ..networks import Network
from ..train import Loss
from .options import ClassifyConfig

NETWORK_OPTIONS = ("patch", "channels", "blocks", "hidden", "dense_width", "dense_blocks", "time")


def read_data(config: ClassifyConfig) -> ImageData:
    """The data of a config, limited to its number of training images."""
    return load_data(config.data).subset(train=config.train_limit)


def build_network(config: ClassifyConfig, data: ImageData) -> Network:
    """The network of a config, with the initial weights that its seed gives. The global random state is left alone.

    Raises:
        InputError: unknown name, or an option that the network does not have.
    """
    cls = by_name("network", Network.registry, config.network)
    names = arguments(cls)
    for name in NETWORK_OPTIONS:
        if name not in names and getattr(config, name) != getattr(ClassifyConfig, name):
            needed = f"one of {', '.join(n for n in names if n in NETWORK_OPTIONS)}"
            raise InputError(message(f"the network {config.network!r} has no option {name!r}", needed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        options = {name: getattr(config, name) for name in NETWORK_OPTIONS if name in names}
        return cls(data.image_shape, len(data.classes), **options)


def build_loss(config: ClassifyConfig) -> Loss:
    """The loss of a config.

    Raises:
        InputError: unknown name.
    """
    cls = by_name("loss", Loss.registry, config.loss)
    values = {"margin": config.margin, "offset": config.margin, "temperature": config.temperature}
    return cls(**{name: values[name] for name in arguments(cls)})


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


def thread_count(config: ClassifyConfig) -> int:
    """The threads to compute with: what the config says, else PyTorch's choice, one per core or OMP_NUM_THREADS."""
    most = 4 * (os.cpu_count() or 1)
    if (config.threads or 1) > most:
        raise InputError(message(f"threads={config.threads}", f"at most {most}, four per core"))
    return config.threads or torch.get_num_threads()


@contextlib.contextmanager
def threads(config: ClassifyConfig) -> Iterator[None]:
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
