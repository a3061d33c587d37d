"""A fixed split of labelled images into four fifths for training and one fifth for testing."""

from __future__ import annotations

import numpy as np


def split(labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and the test images, each in random order.

    The images are shuffled and then sorted by class; every fifth of them, from the first on, is a test image. So
    each class gives its share within one image, and a class of two or more images has one for training.

    Args:
        labels: (n,) integers.
        seed: of numpy's `RandomState`, whose stream is the same in every version of numpy.

    >>> train, test = split(np.repeat([0, 1], 10))
    >>> len(train), sorted(int(i) // 10 for i in test)
    (16, [0, 0, 1, 1])
    """
    order = shuffle(len(labels), seed)
    by_class = np.argsort(labels[order], kind="stable")
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[by_class[::5]] = True
    return order[~is_test], order[is_test]


def shuffle(n: int, seed: int = 0) -> np.ndarray:
    """The numbers from 0 to n - 1 in a random order that depends on n and `seed` only.

    >>> sorted(shuffle(4).tolist())
    [0, 1, 2, 3]
    """
    return np.random.RandomState(seed).permutation(n)
