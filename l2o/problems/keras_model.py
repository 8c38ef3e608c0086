"""Keras models as optimizees: any model, data set and loss."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from annotated_types import Ge

from l2o import seeds
from l2o.errors import UserError, nearest
from l2o.options import Count
from l2o.problems.arrays import ArrayData, from_arrays
from l2o.problems.datasets import Dataset, load
from l2o.problems.initial import InitialValues
from l2o.problems.problem import HeldOut, Instance, Problem
from l2o.problems.shuffling import Shuffling

# The losses for which Keras' "accuracy" makes sense.
CLASSIFICATION_LOSSES = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalCrossentropy,
)

# Bytes. Mini-batches of smaller data sets are gathered inside the graph.
LARGEST_IN_GRAPH = 2**30


class Picked(NamedTuple):
    """Mini-batches as indices of examples, [..., batch_size], gathered inside the graph."""

    indices: tf.Tensor


class KerasProblem(Problem):
    """Any Keras model on a data set, called as `fit` calls it but without side effects.

    Args:
        name: Name of the problem.
        build_model: Returns a fresh model, input batch -> output batch.
        dataset: The data set.
        batch_size: Examples in a mini-batch; the remainder of an epoch is dropped.
        shuffle_buffer: Number of places that an example may move when an epoch is shuffled. The
            size of the set or more gives a full shuffle, and 0 gives none.
        loss: (targets, outputs) -> loss; None: cross entropy of logits [None].
        scores_penalties: Whether the loss of held-out examples includes regularizers and
            `add_loss`, as it has to where they are a part of what is scored [False].

    Attributes:
        classifies: Whether the accuracy makes sense for the loss.

    Raises:
        UserError: If a mini-batch is larger than the training split, no output of the model
            stands for a label, or `build_model` does not return a fresh `keras.Model` with
            trainable weights that only the optimizer changes.
    """

    def __init__(
        self,
        name: str,
        build_model: Callable[[], keras.Model],
        dataset: Dataset | ArrayData,
        batch_size: int,
        shuffle_buffer: int,
        loss: keras.losses.Loss | None = None,
        scores_penalties: bool = False,
    ) -> None:
        examples = dataset.train.size
        if batch_size > examples:
            raise UserError(
                f"batch_size {batch_size} is larger than the {examples} training examples of "
                f"{dataset.name}",
                "batch_size",
            )
        self.name = name
        self.build_model = build_model
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle_buffer = shuffle_buffer
        self.shuffled = Shuffling(shuffle_buffer, batch_size)
        self.scores_penalties = scores_penalties
        self.steps_per_epoch = examples // batch_size
        self.loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.classifies = isinstance(self.loss, CLASSIFICATION_LOSSES)
        self._model = self._built()
        self.param_names = tuple(v.path for v in self._model.trainable_variables)
        self._initial_values = InitialValues(self._fresh)
        # `fit` passes `training` too, if the model's `call` takes it.
        takes_training = "training" in inspect.signature(self._model.call).parameters
        self._mode = {"training": True} if takes_training else {}
        self._inference = dict.fromkeys(self._mode, False)
        if isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy):
            # For any other label the loss is NaN or an error, depending on the device.
            self._check_labels(getattr(self.loss, "_fn_kwargs", {}).get("axis", -1))
        # Traces a training step, which raises for models that cannot be optimizees.
        self.gradient_kinds(
            [v.value for v in self._model.trainable_variables],
            [v.value for v in self._model.non_trainable_variables],
            dataset.train.take(np.arange(batch_size)),
        )

    def _check_labels(self, axis: int) -> None:
        outputs = getattr(self._model, "outputs", None) or [self._model(self._symbols())]
        if not hasattr(outputs[0], "shape"):
            raise UserError(f"build_model of {self.name}: expected a model with one output")
        classes = outputs[0].shape[axis]
        if classes is None:
            return
        for split in (self.dataset.train, self.dataset.test):
            labels = np.asarray([*split][1] if split else [])
            right = (labels >= 0) & (labels < classes) & (labels % 1 == 0)
            right |= labels == self.loss.ignore_class
            if not right.all():
                raise UserError(
                    f"the label {labels[~right][0]} of {self.dataset.name} is not one of the "
                    f"{classes} outputs of {self.name}: expected 0 to {classes - 1}",
                    "dataset",
                )

    def _symbols(self) -> Any:
        """Returns symbolic inputs without a batch size, so that the model is not built for one."""
        inputs, _ = self.dataset.train.take(np.arange(1))
        return tf.nest.map_structure(
            lambda x: keras.KerasTensor((None, *x.shape[1:]), x.dtype.name), inputs
        )

    def model(self, seed: int) -> keras.Model:
        """Returns a fresh Keras model with the weights that `init(seed)` gives.

        Raises:
            UserError: If `build_model` returns the same model twice.
        """
        with seeds.keras_initializers(seed):
            return self._fresh()

    def _fresh(self) -> keras.Model:
        with tf.variable_creator_scope(_under_one_name):
            model = self._built()
        if model.trainable_variables[0] is self._model.trainable_variables[0]:
            raise UserError(f"build_model of {self.name}: expected a fresh model at each call")
        return model

    def _built(self) -> keras.Model:
        model = self.build_model()
        if not isinstance(model, keras.Model):
            raise UserError(
                f"build_model of {self.name}: expected to get a keras.Model; got "
                f"{type(model).__name__}"
            )
        if len(getattr(model, "outputs", None) or [0]) > 1:
            raise UserError(f"build_model of {self.name}: expected a model with one output")
        if not model.built:
            model(self._symbols())
        if not model.trainable_variables:
            raise UserError(f"build_model of {self.name}: the model has no weights to train")
        for variable in model.trainable_variables:
            if variable.constraint is not None:
                raise UserError(
                    f"build_model of {self.name}: expected weights without a constraint, which "
                    f"an optimizee cannot have; {variable.path} has one"
                )
            if variable.overwrite_with_gradient:
                raise UserError(
                    f"build_model of {self.name}: expected weights that only the optimizer "
                    f"changes; {variable.path} is overwritten with its gradient"
                )
        return model

    def init(self, seed: int) -> Instance:
        """See `Problem.init`."""
        values = self._initial_values(seed)
        params = len(self._model.trainable_variables)
        return Instance(values[:params], values[params:])

    def objective(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Any
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """See `Problem.objective`; the loss that `fit` would report for the mini-batch."""
        if isinstance(batch, HeldOut):
            inputs, targets = self.examples_of(batch.batch)
            outputs, penalties, _ = self._call(params, model_state, inputs, self._inference)
            scored = penalties if self.scores_penalties else []
            return self._total(targets, outputs, scored), list(model_state)
        inputs, targets = self.examples_of(batch)
        outputs, penalties, after = self._call(params, model_state, inputs, self._mode)
        return self._total(targets, outputs, penalties), after

    def score(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the loss and accuracy that `model.evaluate` reports, as a pure function.

        Args:
            params: As in `Instance`.
            model_state: As in `Instance`.
            batch: Inputs and targets, as `Split.all` returns them.

        Returns:
            The loss, penalties included, and the accuracy; NaN if the loss is not that of a
            classifier.
        """
        inputs, targets = batch
        outputs, penalties, _ = self._call(params, model_state, inputs, self._inference)
        if not self.classifies:
            right = tf.constant([float("nan")])
        elif isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy):
            right = keras.metrics.sparse_categorical_accuracy(targets, outputs)
        else:
            right = keras.metrics.categorical_accuracy(targets, outputs)
        accuracy = tf.reduce_mean(tf.cast(right, tf.float32))
        return self._total(targets, outputs, penalties), accuracy

    def _total(self, targets: Any, outputs: Any, penalties: Sequence[Any]) -> tf.Tensor:
        loss = tf.reduce_mean(self.loss(targets, outputs))
        for penalty in penalties:
            loss += tf.cast(tf.reduce_sum(penalty), loss.dtype)
        return loss

    def _call(
        self,
        params: Sequence[tf.Tensor],
        model_state: Sequence[tf.Tensor],
        inputs: Any,
        mode: dict[str, bool],
    ) -> tuple[Any, list[Any], list[tf.Tensor]]:
        """Returns outputs, penalties and the new model state."""
        model = self._model
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        values = zip(variables, [*params, *model_state], strict=True)
        # This is the body of `stateless_call` with `__call__` in place of `call`. Otherwise layers
        # inside a layer whose `call` has no `training` would not know that this is training.
        with keras.StatelessScope(state_mapping=list(values), collect_losses=True) as scope:
            before = [scope.get_current_value(v) for v in model.trainable_variables]
            outputs = model(inputs, **mode)
            penalties = model.losses
        for variable, value in zip(model.trainable_variables, before, strict=True):
            if scope.get_current_value(variable) is not value:
                raise UserError(
                    f"build_model of {self.name}: expected weights that only the optimizer "
                    f"changes; the model assigns {variable.path} when it is called, which an "
                    "optimizee cannot do"
                )
        return (
            outputs,
            penalties,
            [scope.get_current_value(v) for v in model.non_trainable_variables],
        )

    def batches(self, seed: int, start: int, count: int) -> Any:
        """See `Problem.batches`; inputs and targets, each array [count, batch, ...]."""
        return self.dataset.train.take(self.indices(seed, start, count))

    def stream(self, seed: int, start: int, count: int) -> Any:
        """See `Problem.stream`; returns `Picked` unless the data set is large."""
        return self.picked(self.indices(seed, start, count))

    def picked(self, indices: np.ndarray) -> Any:
        """Returns mini-batches of training examples in the form that `stream` gives them.

        Args:
            indices: Of the examples, [count, batch_size].
        """
        size = sum(array.nbytes for array in tf.nest.flatten([*self.dataset.train]))
        if size > LARGEST_IN_GRAPH:
            return self.dataset.train.take(indices)
        return Picked(tf.constant(indices))

    def examples_of(self, batch: Any) -> tuple[Any, tf.Tensor]:
        """Returns the inputs and targets of a mini-batch in the form of `batches` or `stream`."""
        if not isinstance(batch, Picked):
            return batch
        rows = tf.nest.map_structure(lambda x: tf.gather(x, batch.indices), self._examples)
        return self.dataset.train.ready(rows)

    @cached_property
    def _examples(self) -> Any:
        # Outside of the graph that is being traced, so that later graphs can use the tensors.
        with tf.init_scope():
            return tf.nest.map_structure(tf.constant, (*self.dataset.train,))

    def indices(self, seed: int, start: int, count: int) -> np.ndarray:
        """Returns the indices of the examples of `batches`, [count, batch_size] integers."""
        return self.shuffled(self.dataset.train.size, start, count, seed)


def _under_one_name(create: Callable[..., tf.Variable], **options: Any) -> tf.Variable:
    # TensorFlow keeps 35 kB forever for each new name of a variable, and Keras gives every layer
    # a new number.
    with tf.name_scope("optimizee/"):
        return create(**options)


def keras_problem(
    build_model: Callable[[], keras.Model],
    dataset: str | Dataset | tuple[Any, Any],
    loss: str | keras.losses.Loss | Callable[[Any, Any], Any],
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    name: str = "keras_problem",
    scores_penalties: bool = False,
) -> KerasProblem:
    """Returns a problem whose optimizees are Keras models.

    Moving statistics and the seeds of dropout layers are model_state. Regularizers and
    `add_loss` are part of the objective. As in `fit`, a subclassed model is in training mode
    only if its `call` takes `training`. Its own `train_step` or `compute_loss`, and callbacks,
    are not used.

    Args:
        build_model: Returns a fresh model with one output. The seed of an instance determines
            Keras' random layers and initializers that have no seed of their own.
        dataset: `digits` or a TFDS name, see `datasets.load`; a `Dataset`; or arrays,
            (x, y) or ((x, y), (x_test, y_test)), where x may be a dict, tuple or list of
            arrays. Arrays are not scaled, and integers stay integers.
        loss: As for `compile`: a Keras loss, its name, or a function
            (y_true, y_pred) -> loss of each example or of all. Keras casts both to floats.
        batch_size: Examples in a mini-batch [64].
        shuffle_buffer: Number of places that an example may move when an epoch is shuffled
            [16384].
        name: For messages and file names ["keras_problem"].
        scores_penalties: Whether the loss of held-out examples (`split=held_out`) includes
            regularizers and `add_loss`. The bound of a variational autoencoder would lack its
            divergence otherwise [False].

    Returns:
        The problem; its parameters are the model's `trainable_variables`.

    Raises:
        UserError: If the arrays do not fit each other, a mini-batch is larger than the
            data, `build_model` does not return a fresh model with trainable weights that only
            the optimizer changes, or there is no such data set or loss.
    """
    if isinstance(dataset, str):
        dataset = load(dataset)
    data = dataset if isinstance(dataset, Dataset) else from_arrays(dataset)
    return KerasProblem(
        name, build_model, data, batch_size, shuffle_buffer, _as_loss(loss), scores_penalties
    )


class FunctionLoss(keras.losses.Loss):
    """The loss that `compile` makes of a function: its mean over the examples.

    Args:
        function: (y_true, y_pred) -> loss of each example or of all.
    """

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        # Names in a graph have no other characters; a lambda is called <lambda>.
        name = re.sub(r"\W", "", getattr(function, "__name__", ""))
        super().__init__(name=name or "loss")
        self.function = function

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the value of the function; see `keras.losses.Loss.call`."""
        # [N] and [N, 1] would broadcast to [N, N], which is wrong and raises no error.
        if len(y_true.shape) + 1 == len(y_pred.shape) and y_pred.shape[-1] == 1:
            y_true = y_true[..., tf.newaxis]
        elif len(y_pred.shape) + 1 == len(y_true.shape) and y_true.shape[-1] == 1:
            y_pred = y_pred[..., tf.newaxis]
        return self.function(y_true, y_pred)


def _as_loss(loss: Any) -> keras.losses.Loss:
    try:
        found = keras.losses.get(loss)
    except ValueError:
        known = [n for n in dir(keras.losses) if not n.startswith("_") and n != "Loss"]
        raise UserError(f"no loss called {loss!r}{nearest(str(loss), known)}", "loss") from None
    if isinstance(found, keras.losses.Loss):
        return found
    # For these names Keras returns functions, but only the classes are known as classifiers.
    if found is keras.losses.sparse_categorical_crossentropy:
        return keras.losses.SparseCategoricalCrossentropy()
    if found is keras.losses.categorical_crossentropy:
        return keras.losses.CategoricalCrossentropy()
    if callable(found):
        return FunctionLoss(found)
    raise UserError(f"expected a Keras loss, its name or a function; got {loss!r}", "loss")
