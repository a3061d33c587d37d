"""The trained denoisers that come with the package, loaded by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ..core.errors import InputError, message, unknown_name
from ..layers.files import load
from .denoiser import ChannelWise, Denoiser

FOLDER = "weights"


def shipped() -> list[str]:
    """The names of the denoisers that come with the package."""
    folder = resources.files(__package__ or "") / FOLDER
    return sorted(f.name.removesuffix(".safetensors") for f in folder.iterdir() if f.name.endswith(".safetensors"))


def pretrained_denoiser(name: str) -> Denoiser:
    """A trained denoiser: "grey" or "colour", or a model file of your own; in evaluation mode.

    Args:
        name: one of `shipped()`, or the path of a .safetensors file, or of a run folder that holds model.safetensors.

    Raises:
        InputError: nothing of that name, or a file that holds no denoiser.

    >>> pretrained_denoiser("grey").channels
    1
    """
    path = Path(name)
    if name in shipped():
        with resources.as_file(resources.files(__package__ or "") / FOLDER / f"{name}.safetensors") as file:
            net = load(file)
    elif path.is_dir() or path.suffix == ".safetensors":
        net = load(path / "model.safetensors" if path.is_dir() else path)
    else:
        raise unknown_name("denoiser", name, [*shipped(), "a .safetensors file"])
    if not isinstance(net, Denoiser):
        raise InputError(message(f"{name} holds a {type(net).__name__}", "a denoiser"))
    return net


def denoiser_for(channels: int) -> Denoiser:
    """The denoiser that comes with the package for images with so many channels.

    That is "grey" for one channel, "colour" for three, and for any other number "grey" on every channel.
    """
    if channels in (1, 3):
        return pretrained_denoiser("grey" if channels == 1 else "colour")
    return ChannelWise(pretrained_denoiser("grey"), channels).eval()
