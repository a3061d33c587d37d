"""Ctrl-C between two optimiser steps, and never within one."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Remember a first Ctrl-C instead of raising KeyboardInterrupt; yields a function that says whether it came.

    KeyboardInterrupt can be raised between any two instructions, so also when half of the parameters are updated. A
    second Ctrl-C is not deferred. Where SIGINT has another handler, or outside the main thread, nothing is changed.

    >>> with deferred_interrupt() as interrupted:
    ...     interrupted()
    False
    """
    came = False

    def remember(number: int, frame: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    try:
        signal.signal(signal.SIGINT, remember)
    except ValueError:  # not the main thread: no signal arrives here
        yield lambda: False
        return
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
