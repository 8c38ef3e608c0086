"""Small sets in the format of TFDS."""

import numpy as np


def prepare(name, shape, splits, data_dir, classes=3, image_shapes=None, dtype=np.uint8, shards=1):
    """Writes a small set in TFDS format; returns its images and labels by split."""
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    content, written = {}, {}
    for split, size in splits.items():
        shapes = image_shapes or [shape] * size
        images = [drawn(rng, s, dtype) for s in shapes[:size]]
        labels = rng.integers(0, classes, size)
        content[split] = (images, labels)
        written[split] = [
            (i, {"image": image, "label": int(label)})
            for i, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
    builder = tfds.dataset_builders.AdhocBuilder(
        name=name,
        version="3.0.1",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=shape, dtype=dtype),
                "label": tfds.features.ClassLabel(num_classes=classes),
            }
        ),
        split_datasets=written,
        data_dir=str(data_dir),
    )
    settings = tfds.download.DownloadConfig(num_shards=shards)
    builder.download_and_prepare(download_config=settings)
    return content


def drawn(rng, shape, dtype):
    """An image whose values fill the range of its type, both ends included."""
    if np.issubdtype(dtype, np.floating):
        return rng.random(shape, dtype=dtype)
    high = np.iinfo(dtype).max
    image = rng.integers(0, high, shape, dtype=dtype, endpoint=True)
    image.flat[:2] = 0, high
    return image
