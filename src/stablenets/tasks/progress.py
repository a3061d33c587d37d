"""How a job says how far it is."""

from __future__ import annotations

from collections.abc import Callable

# Called as progress(task, done, total, note), e.g. ("training", 120, 7020, "loss 0.031"). A total of 0 says that it is
# not known; a task is over when done == total > 0. May be called thousands of times a second, from several threads.
Progress = Callable[[str, int, int, str], None]


def silent(task: str, done: int, total: int, note: str) -> None:
    """The `Progress` that shows nothing."""


def prefixed(progress: Progress, name: str) -> Progress:
    """`progress`, with `name` before every task.

    >>> prefixed(lambda *news: print(news), "ResNet")("training", 1, 2, "")
    ('ResNet: training', 1, 2, '')
    """
    return lambda task, done, total, note: progress(f"{name}: {task}", done, total, note)
