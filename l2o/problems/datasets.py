"""Classification data sets: three of scikit-learn, and every TFDS image set by its name."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from l2o.errors import UserError, nearest
from l2o.problems import decoded

# Bytes. A set is held in memory in the dtype of its images; larger sets are refused.
LARGEST_SET = 4 * 2**30
# Bytes of images that are read together.
BYTES_AT_ONCE = 2**24
# Of a file, by one thread.
RECORDS_AT_ONCE = 128
CONNECT_SECONDS = 10
# These need no download.
BUNDLED = ("digits", "breast_cancer", "wine")


class Split(NamedTuple):
    """Images [N, height, width, channels] of any dtype, and labels [N].

    A set without images has features [N, features] in their place.
    """

    images: np.ndarray
    labels: np.ndarray

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.labels)

    def take(self, index: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns float32 images and int32 labels at `index` of any shape; see `ready`."""
        return self.ready((tf.constant(self.images[index]), tf.constant(self.labels[index])))

    @staticmethod
    def ready(rows: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the images and labels that a model gets for rows of these arrays.

        Of images the whole range of an integer type becomes [0, 1]: 255 of uint8 and 65,535 of
        uint16 are 1. Floats and features keep their values.
        """
        images, labels = rows
        dtype, images = images.dtype, tf.cast(images, tf.float32)
        if dtype.is_integer and images.shape.rank - labels.shape.rank == 3:
            # As floats, because the difference of the ends does not fit a signed type.
            low, high = float(dtype.min), float(dtype.max)
            images = (images - low if low else images) / (high - low)
        return images, tf.cast(labels, tf.int32)

    def all(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the whole split, in the form of `take`."""
        return self.take(np.arange(len(self.labels)))


class Images(NamedTuple):
    """Images [N, height, width, channels] of any dtype, which are inputs and targets alike."""

    images: np.ndarray

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.images)

    def take(self, index: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns float32 images at `index` of any shape, twice; see `ready`."""
        return self.ready((tf.constant(self.images[index]),))

    @staticmethod
    def ready(rows: tuple[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the inputs and targets that a model gets for rows of the array.

        They are scaled as by `Split.ready`.
        """
        (images,) = rows
        images, _ = Split.ready((images, tf.zeros(images.shape[:-3], tf.int32)))
        return images, images

    def all(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns all examples, in the form of `take`."""
        return self.take(np.arange(self.size))


class Dataset(NamedTuple):
    """A classification data set: its splits and its number of classes."""

    name: str
    train: Split
    test: Split
    classes: int


def load(name: str, image_size: int | None = None) -> Dataset:
    """Loads a data set into memory; the same arguments give the same object.

    Args:
        name: `digits` (1,437 + 360 grey 8x8 images), `breast_cancer` (455 + 114 examples of
            30 features) or `wine` (142 + 36 of 13), which are part of scikit-learn; or the
            name of a TFDS image-classification set (`mnist`, `cifar10`, `emnist/letters`).
        image_size: Resize images to this many pixels squared; None keeps them.

    Returns:
        The data set.

    Raises:
        UserError: If there is no such set, or if it is not on disk and cannot be downloaded.
    """
    try:
        return _load(name, image_size)
    except UserError as error:
        raise UserError(error.message, "dataset") from None


def with_wrong_labels(dataset: Dataset, share: float) -> Dataset:
    """Returns a data set in which some training labels are wrong, drawn among the other classes.

    Args:
        dataset: The data set with the right labels.
        share: Share of the training labels to change, from 0 to 1.

    Raises:
        UserError: If there is no other class.
    """
    if not share:
        return dataset
    if dataset.classes < 2:
        raise UserError(f"{dataset.name} has one class: expected 0", "label_noise")
    labels = dataset.train.labels
    rng = np.random.default_rng(0)
    wrong = rng.permutation(len(labels))[: round(share * len(labels))]
    changed = labels.astype(np.int64)
    changed[wrong] += rng.integers(1, dataset.classes, len(wrong))
    changed[wrong] %= dataset.classes
    return dataset._replace(train=Split(dataset.train.images, changed))


@lru_cache(maxsize=4)
def _load(name: str, image_size: int | None) -> Dataset:
    if name in BUNDLED:
        dataset = _digits() if name == "digits" else _table(name)
    else:
        dataset = _tfds(name, image_size)
    if image_size is None:
        return dataset
    if dataset.train.images.ndim == 2:
        raise UserError(f"{name} has no images: expected image_size=null")
    if dataset.train.images.shape[1:3] == (image_size, image_size):
        return dataset
    return dataset._replace(
        train=_resized(dataset.train, image_size), test=_resized(dataset.test, image_size)
    )


def _resized(split: Split, size: int) -> Split:
    return Split(tf.image.resize(split.images, [size, size]).numpy(), split.labels)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels.astype(np.int32), test_size=360, random_state=0, stratify=labels
    )
    return Dataset("digits", Split(x_train, y_train), Split(x_test, y_test), 10)


def _table(name: str) -> Dataset:
    """Returns a set whose features have mean 0 and variance 1 on the training split."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    features, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        features, labels.astype(np.int32), test_size=0.2, random_state=0, stratify=labels
    )
    scaler = StandardScaler().fit(x_train)
    train, test = (
        Split(scaler.transform(x).astype(np.float32), y)
        for x, y in ((x_train, y_train), (x_test, y_test))
    )
    return Dataset(name, train, test, int(labels.max()) + 1)


def _tfds(name: str, image_size: int | None) -> Dataset:
    builder = _prepared_builder(name)
    image, label = _supervised_keys(name, builder.info)
    shape = builder.info.features[image].shape
    if image_size:
        shape = (image_size, image_size, shape[-1])
    if None in shape:
        raise UserError(
            f"the images of dataset {name!r} have no common size: expected image_size=N too"
        )
    splits = builder.info.splits
    if "train" not in splits:
        raise UserError(f"dataset {name!r} has no split called train, only {', '.join(splits)}")
    held_out = next((s for s in ("test", "validation") if s in splits), None)
    train, test = ("train", held_out) if held_out else ("train[:80%]", "train[80%:]")
    about = _about(builder, (train, test), (image, label), shape)
    arrays = decoded.read(about) if about else None
    if arrays is None:
        first, second = (_read(builder, split, image, label, shape) for split in (train, test))
    else:
        first, second = (Split(arrays[f"images {i}"], arrays[f"labels {i}"]) for i in range(2))
    if about and arrays is None:
        decoded.write(
            about,
            {
                f"{part} {i}": array
                for i, split in enumerate((first, second))
                for part, array in split._asdict().items()
            },
        )
    return Dataset(name, first, second, builder.info.features[label].num_classes)


def _about(
    builder: Any, splits: Sequence[str], keys: Sequence[str], shape: Sequence[int]
) -> dict[str, Any] | None:
    """Returns everything that the arrays of a set depend on; None if its files are not on disk."""
    try:
        with os.scandir(builder.data_dir) as entries:
            files = sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries)
    except OSError:
        return None
    return {
        "set": builder.info.full_name,
        "directory": str(builder.data_dir),
        # Another set may have been prepared there under the same name.
        "files": [list(file) for file in files],
        "splits": list(splits),
        "keys": list(keys),
        "shape": list(shape),
        "dtype": np.dtype(builder.info.features[keys[0]].np_dtype).str,
        "code": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "tensorflow": tf.__version__,
    }


def _prepared_builder(name: str) -> Any:
    # TFDS also accepts `namespace:name`, which runs code from elsewhere.
    if not re.fullmatch(r"\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?", name):
        raise UserError(
            f"{name!r} is not the name of a data set: expected {', '.join(BUNDLED)} or a TFDS name"
        )
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError):
        known = [*BUNDLED, *tfds.list_builders(with_community_datasets=False)]
        raise UserError(
            f"no data set called {name!r}{nearest(name, known)}: expected "
            f"{', '.join(BUNDLED)}, the name of a TFDS set, or one prepared in "
            f"{tfds.core.constants.DATA_DIR}"
        ) from None
    if not builder.is_prepared():
        _download(tfds, name, builder)
    return builder


def _download(tfds: Any, name: str, builder: Any) -> None:
    import requests

    tried = f"dataset {name!r} is not prepared in {builder.data_dir}"
    way_on = "prepare it there, or use dataset=digits, which needs no download"
    try:
        # Without a network TFDS retries for minutes, so one request is tried first.
        for url in list(_urls(builder))[:1]:
            requests.head(url, timeout=CONNECT_SECONDS)
    except requests.RequestException:
        raise UserError(f"{tried} and its download site cannot be reached: {way_on}") from None
    settings = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=settings)
    except Exception as error:  # whatever a download or a foreign site may raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{tried} and could not be downloaded ({reason[0]}): {way_on}") from None


def _urls(builder: Any) -> Iterator[str]:
    for url in builder.url_infos:
        if url.startswith("http"):
            yield url


def _supervised_keys(name: str, info: Any) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    keys = info.supervised_keys or ("image", "label")
    image, label = keys[0], keys[1]
    features = info.features
    if not (
        isinstance(features, tfds.features.FeaturesDict)
        and {image, label} <= set(features)
        and isinstance(features[image], tfds.features.Image)
        and isinstance(features[label], tfds.features.ClassLabel)
    ):
        raise UserError(f"dataset {name!r} is not an image-classification set")
    return image, label


def _read(builder: Any, split: str, image: str, label: str, shape: tuple[int, ...]) -> Split:
    import tensorflow_datasets as tfds

    count = builder.info.splits[split].num_examples
    if count == 0:
        raise UserError(f"split {split} of dataset {builder.name!r} is empty")
    dtype = builder.info.features[image].np_dtype
    size = count * int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size > LARGEST_SET:
        raise UserError(
            f"dataset {builder.name!r} needs {size / 2**30:.1f} GiB of memory, more than "
            f"{LARGEST_SET / 2**30:.0f}: expected a smaller set or a smaller image_size"
        )
    images = np.empty((count, *shape), dtype)
    labels = np.empty(count, np.int32)
    # TensorFlow makes room for all rows of a batch, even if there are fewer.
    rows = min(count, max(1, BYTES_AT_ONCE // (size // count)))
    parts = builder.info.splits[split].file_instructions
    if len(parts) == 1 and builder.info.file_format == tfds.core.FileFormat.TFRECORD:
        batches = _of_file(builder, parts[0], (image, label), shape, min(rows, RECORDS_AT_ONCE))
    else:
        batches = _one_by_one(builder, split, (image, label), shape).batch(rows)
    filled, damage = 0, ""
    try:
        for some_images, some_labels in batches.as_numpy_iterator():
            end = filled + len(some_labels)
            images[filled:end], labels[filled:end] = some_images, some_labels
            filled = end
        if filled < count:
            damage = f"it has {filled} of {count} examples"
    except tf.errors.OpError as error:
        damage = error.message.splitlines()[0][:200]
    if damage:
        raise UserError(
            f"split {split} of dataset {builder.name!r} in {builder.data_dir} cannot be read, or "
            f"is damaged ({damage}): prepare it again"
        )
    return Split(images, labels)


def _of_file(
    builder: Any, part: Any, keys: tuple[str, str], shape: tuple[int, ...], rows: int
) -> tf.data.Dataset:
    """Returns batches of images and labels from one file, in its order.

    TensorFlow spends more time on each element of a data set than on decoding a small image, so
    the elements are batches from the start.
    """
    feature = builder.info.features[keys[0]]
    types = [tf.string, tf.int64]
    stored = {key: tf.io.FixedLenFeature([], t) for key, t in zip(keys, types, strict=True)}
    spec = tf.TensorSpec(shape, feature.tf_dtype)

    def one(encoded: tf.Tensor) -> tf.Tensor:
        return _in_shape(feature.decode_example(encoded), shape)

    def batch(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = tf.io.parse_example(records, stored)
        return tf.map_fn(one, parsed[keys[0]], fn_output_signature=spec), parsed[keys[1]]

    records = tf.data.TFRecordDataset(str(part.filename)).skip(part.skip).take(part.take)
    return records.batch(rows).map(batch, num_parallel_calls=tf.data.AUTOTUNE)


def _one_by_one(
    builder: Any, split: str, keys: tuple[str, str], shape: tuple[int, ...]
) -> tf.data.Dataset:
    """Returns images and labels of any split."""
    import tensorflow_datasets as tfds

    # The cache of TFDS would hold the set a second time.
    read = tfds.ReadConfig(try_autocache=False)
    return builder.as_dataset(split=split, read_config=read).map(
        lambda example: (_in_shape(example[keys[0]], shape), example[keys[1]]),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _in_shape(pixels: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Returns an image, resized if it has another shape, in its own dtype."""
    if pixels.shape == shape:
        return pixels
    resized = tf.image.resize(pixels, shape[:2])
    if pixels.dtype.is_integer:
        resized = tf.round(resized)
    return tf.ensure_shape(tf.cast(resized, pixels.dtype), shape)
