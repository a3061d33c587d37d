"""A named architecture: images in, scores out."""

from __future__ import annotations

import abc
import os
from typing import TYPE_CHECKING, Self

from ..core.claims import Claims
from ..core.component import arguments
from ..core.errors import InputError, message
from ..layers.base import Composed
from ..layers.chain import claims
from . import pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from ..certify import Certificate


class Network(Composed, root=True):
    """A classifier: images (batch, channels, height, width) in [0, 1] -> scores (batch, classes).

    Its layers are in `body`.
    """

    image_shape: tuple[int, ...]
    classes: int

    @abc.abstractmethod
    def claims(self) -> Claims:
        """What the network, with its present weights, is proved to satisfy."""

    def save_pretrained(self, folder: str | os.PathLike[str], *, certificate: Certificate | None = None) -> Path:
        """Write config.json, model.safetensors and, if given, certificate.json into `folder`; returns the folder.

        Raises:
            ClaimError: in training mode, where the steps are not frozen.
            InputError: the certificate is for other weights, or the folder cannot be written.

        >>> import tempfile
        >>> from stablenets.networks import NonExpansiveNet
        >>> net = next(NonExpansiveNet.examples()).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     twin = NonExpansiveNet.from_pretrained(net.save_pretrained(folder))
        >>> twin.image_shape
        (1, 4, 4)
        """
        return pretrained.write(self, folder, certificate)

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], *, revision: str | None = None) -> Self:
        """The network that `save_pretrained` or `push_to_hub` wrote: bit for bit, in evaluation mode, steps frozen.

        Args:
            source: a folder, or else the name "owner/name" of a repository of the Hugging Face hub. A folder needs no
                connection, nor does a repository that was downloaded before (`HF_HUB_OFFLINE=1` asks for none).
            revision: branch, tag or commit of the repository.

        Raises:
            InputError: there is nothing of that name, the files are not intact, or hold another kind of network.
        """
        net = pretrained.read(source, revision)
        if not isinstance(net, cls):
            todo = "Network.from_pretrained takes any network."
            raise InputError(message(f"{source} holds a {type(net).__name__}", f"a {cls.__name__}", todo))
        return net

    def push_to_hub(self, name: str, *, certificate: Certificate | None = None, private: bool = False) -> str:
        """Upload what `save_pretrained` writes to the hub's repository "owner/name", made if need be.

        Returns:
            the address of the repository.

        Raises:
            ClaimError, InputError: as `save_pretrained`. Errors of the connection are those of `huggingface_hub`.
        """
        return pretrained.upload(self, name, certificate, private)


class Provable(Network, abc.ABC):
    """A network all of whose layers carry claims."""

    def claims(self) -> Claims:
        return claims(self)


def made_for_images() -> dict[str, type[Network]]:
    """The registered networks that are made of an image shape and a number of classes, which can be chosen by name.

    >>> "NeuralODE" in made_for_images()  # it is made of its parts
    False
    """
    return {n: c for n, c in Network.registry.items() if arguments(c)[:2] == ["image_shape", "classes"]}
