"""Classifiers: ordinary Keras models as optimizees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf
from annotated_types import Ge

from l2o import seeds
from l2o.errors import UserError
from l2o.options import Activation, Count
from l2o.problems.datasets import Dataset, load
from l2o.problems.problem import Instance, Problem


class KerasProblem(Problem):
    """Any Keras classifier on a data set, called through `stateless_call`.

    Args:
        name: Name of the problem.
        build_model: Returns a fresh model, image batch -> logits.
        dataset: What it learns.
        batch_size: Examples in a mini-batch; the rest of an epoch is dropped.
        shuffle_buffer: How many places an example may move when an epoch is shuffled;
            at least the size of the set: a full shuffle; 0: none.

    Raises:
        UserError: If a mini-batch is larger than the training split.
    """

    def __init__(
        self,
        name: str,
        build_model: Callable[[], keras.Model],
        dataset: Dataset,
        batch_size: int,
        shuffle_buffer: int,
    ) -> None:
        examples = len(dataset.train.labels)
        if batch_size > examples:
            raise UserError(
                f"batch_size {batch_size} is larger than the {examples} training examples of "
                f"{dataset.name}"
            )
        self.name = name
        self.build_model = build_model
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle_buffer = shuffle_buffer
        self.steps_per_epoch = examples // batch_size
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._model = build_model()

    def model(self, seed: int) -> keras.Model:
        """Returns a fresh Keras model with the weights that `init(seed)` gives."""
        with seeds.keras_initializers(seed):
            return self.build_model()

    def init(self, seed: int) -> Instance:
        """See `Problem.init`."""
        model = self.model(seed)
        return Instance(
            [tf.convert_to_tensor(v.value) for v in model.trainable_variables],
            [tf.convert_to_tensor(v.value) for v in model.non_trainable_variables],
        )

    def objective(
        self,
        params: Sequence[tf.Tensor],
        model_state: Sequence[tf.Tensor],
        batch: tuple[tf.Tensor, tf.Tensor],
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """See `Problem.objective`; the mean cross entropy of the mini-batch."""
        images, labels = batch
        logits, state = self._model.stateless_call(params, model_state, images, training=True)
        return self.loss(labels, logits), list(state)

    def batches(self, seed: int, start: int, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Problem.batches`; images [count, batch, ...], labels [count, batch]."""
        return self.dataset.train.take(self.indices(seed, start, count))

    def indices(self, seed: int, start: int, count: int) -> np.ndarray:
        """Returns which examples `batches` takes: [count, batch_size] integers."""
        per_epoch = self.steps_per_epoch or 1
        first, last = start // per_epoch, (start + count - 1) // per_epoch
        epochs = [self._epoch(seed, epoch) for epoch in range(first, last + 1)]
        offset = start - first * per_epoch
        return np.concatenate(epochs)[offset : offset + count]

    def _epoch(self, seed: int, epoch: int) -> np.ndarray:
        examples = len(self.dataset.train.labels)
        rng = seeds.generator(seed, epoch)
        if self.shuffle_buffer >= examples:
            order = rng.permutation(examples)
        else:
            order = np.argsort(np.arange(examples) + rng.uniform(0, self.shuffle_buffer, examples))
        used = (self.steps_per_epoch or 1) * self.batch_size
        return order[:used].reshape(-1, self.batch_size)


def mlp_classifier(
    layers: Sequence[Count] = (20,),
    dataset: str = "digits",
    activation: Activation = "sigmoid",
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    image_size: Count | None = None,
) -> KerasProblem:
    """A multilayer perceptron with softmax cross entropy.

    Args:
        layers: Units of each hidden layer [(20,)].
        dataset: `digits` or a TFDS name, see `datasets.load` ["digits"].
        activation: Activation of the hidden layers ["sigmoid"].
        batch_size: Examples in a mini-batch [64].
        shuffle_buffer: How far an example may move in the shuffle [16384].
        image_size: Resize images to this many pixels squared; None keeps them [None].

    Returns:
        The problem; its parameters are the kernels and biases in the order of layers.
    """
    data = load(dataset, image_size)

    def build_model() -> keras.Model:
        return keras.Sequential(
            [
                keras.Input(data.train.images.shape[1:]),
                keras.layers.Flatten(),
                *(keras.layers.Dense(units, activation) for units in layers),
                keras.layers.Dense(data.classes),
            ]
        )

    return KerasProblem("mlp_classifier", build_model, data, batch_size, shuffle_buffer)
