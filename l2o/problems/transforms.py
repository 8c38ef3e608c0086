"""Data sets that are made of the images of another: inverted, shifted or projected."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from l2o.errors import UserError
from l2o.problems.datasets import LARGEST_SET, Dataset, Split, load, with_wrong_labels

Transform = Literal["inverted", "shifted", "projected"]
# Images move by at most this share of their side.
SHIFT = 1 / 8
# Numbers of an image. The projection has the square of it.
LARGEST_PROJECTED = 4096


def image_set(
    name: str, image_size: int | None, transform: Transform | None, label_noise: float = 0.0
) -> Dataset:
    """Returns a set of images as the options of a problem describe it.

    Args:
        name: As for `load`.
        image_size: As for `load`.
        transform: As for `transformed`; None: the images as they are.
        label_noise: As the share for `with_wrong_labels` [0.0].

    Raises:
        UserError: As `load` does, or if the set has no images.
    """
    data = load(name, image_size)
    if data.train.images.ndim == 2:
        raise UserError(f"{name} has no images: expected a set of images", "dataset")
    return with_wrong_labels(transformed(name, image_size, transform), label_noise)


def transformed(name: str, image_size: int | None, transform: Transform | None) -> Dataset:
    """Returns a set whose images are changed, always in the same way.

    Args:
        name: As for `load`.
        image_size: As for `load`.
        transform: `inverted`: light becomes dark. `shifted`: each image is moved by up to an eighth
            of its side in both directions, and zeros follow; how far depends on its place in
            the set. `projected`: the pixels of an image, from 0 to 1, times a random orthogonal
            matrix, which is the same for all; neighbours have nothing in common then. None: no
            change.

    Raises:
        UserError: If the set has no images, or its images are too small or too large.
    """
    return _changed(name, image_size, transform) if transform else load(name, image_size)


@lru_cache(maxsize=4)
def _changed(name: str, image_size: int | None, transform: Transform) -> Dataset:
    data = load(name, image_size)
    if data.train.images.ndim == 2:
        raise UserError(f"{name} has no images: expected transform=null", "transform")
    change = {"inverted": _inverted, "shifted": _shifted, "projected": _projected}[transform]
    train, test = change(data)
    return data._replace(
        name=f"{name} ({transform})",
        train=Split(train, data.train.labels),
        test=Split(test, data.test.labels),
    )


def _inverted(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    images = data.train.images
    if images.dtype.kind in "iu":
        # All bits: the highest value becomes the lowest, without a larger type.
        return ~images, ~data.test.images
    low, high = images.min(), images.max()
    return low + (high - images), low + (high - data.test.images)


def _shifted(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    farthest = np.array([int(SHIFT * side) for side in data.train.images.shape[1:3]])
    if not farthest.any():
        raise UserError(
            f"the images of {data.name} are too small to be shifted: expected at least "
            f"{round(1 / SHIFT)} pixels squared",
            "transform",
        )
    rng = np.random.default_rng(0)

    def shift(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        top, left = rng.integers(-farthest, farthest, (len(images), 2), endpoint=True).T
        margins = [(n, n) for n in farthest]
        padded = np.pad(images, [(0, 0), *margins, (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        moved = windows[np.arange(len(images)), farthest[0] - top, farthest[1] - left]
        # The axes of a window come last.
        return np.ascontiguousarray(np.moveaxis(moved, 1, -1))

    return shift(data.train.images), shift(data.test.images)


def _projected(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    size = int(np.prod(data.train.images.shape[1:]))
    needed = 4 * size * (data.train.size + data.test.size)
    if size > LARGEST_PROJECTED or needed > LARGEST_SET:
        raise UserError(
            f"the images of {data.name} are too large to be projected: expected at most "
            f"{LARGEST_PROJECTED} numbers in each and {LARGEST_SET / 2**30:.0f} GiB in all, such "
            "as with a smaller image_size",
            "transform",
        )
    matrix, triangle = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))
    # With these signs it is uniform over all orthogonal matrices.
    matrix = (matrix * np.sign(np.diag(triangle))).astype(np.float32)

    def project(split: Split) -> np.ndarray:
        pixels = [
            split.take(part)[0].numpy().reshape(-1, size) @ matrix
            for part in np.array_split(np.arange(split.size), 1 + split.size * size // 2**24)
        ]
        return np.concatenate(pixels).reshape(split.images.shape)

    return project(data.train), project(data.test)
