"""Language models: ordinary Keras models as optimizees."""

from __future__ import annotations

from typing import Annotated, Literal

import keras
from annotated_types import Ge
from keras import layers

from l2o.errors import UserError
from l2o.options import Count
from l2o.problems.blocks import EPSILON, OneHotEmbedding, Positions, transformer_block
from l2o.problems.keras_model import KerasProblem
from l2o.problems.text import windows

RECURRENT = {"rnn": layers.SimpleRNN, "gru": layers.GRU, "lstm": layers.LSTM}
# A recurrence of at most this many steps is traced without a loop. That is faster for optimizees
# side by side, and tracing it takes seconds at most.
LONGEST_WITHOUT_LOOP = 64


def char_lm(
    architecture: Literal["rnn", "gru", "lstm", "transformer"] = "transformer",
    width: Count = 64,
    depth: Count = 2,
    heads: Count = 4,
    context: Count = 32,
    batch_size: Count = 32,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    text: str | None = None,
    characters: Count | None = None,
) -> KerasProblem:
    """Prediction of the next character of a text, with the mean cross entropy per character.

    The accuracy is the share of characters that are predicted rightly. The 95 most frequent
    characters of the training split are told apart; the others count as one.

    Args:
        architecture: `rnn`, `gru`, `lstm` or `transformer`: pre-norm, with learned positions and a
            causal mask ["transformer"].
        width: Units of each layer, and length of the embedding of a character [64].
        depth: Number of recurrent layers, or of transformer blocks [2].
        heads: Attention heads of a transformer block, a divisor of `width` [4].
        context: Number of characters that a window shows; each predicts the next one [32].
        batch_size: Windows in a mini-batch [32].
        shuffle_buffer: Number of places that a window may move when an epoch is shuffled [16384].
        text: Path of a text in UTF-8. Its last tenth is the test split. None: the reference of
            the Python language that comes with Python, 465,000 characters [None].
        characters: How many characters of the text count, from its start; None: all. A short text
            is evaluated sooner [None].

    Returns:
        The problem; its parameters are those of the layers, in their order.

    Raises:
        UserError: If the text cannot be read or is too short, or `heads` does not divide `width`.
    """
    transformer = architecture == "transformer"
    if transformer and width % heads:
        raise UserError(f"width {width} is no multiple of {heads} heads", "heads")
    data = windows(text, context, characters)

    def recurrent(x: keras.KerasTensor) -> keras.KerasTensor:
        layer = RECURRENT[architecture]
        # The kernels of cuDNN have no second derivatives and cannot be batched.
        kwargs = {} if layer is layers.SimpleRNN else {"use_cudnn": False}
        unroll = context <= LONGEST_WITHOUT_LOOP
        return layer(width, return_sequences=True, unroll=unroll, **kwargs)(x)

    def build_model() -> keras.Model:
        inputs = keras.Input((context,), dtype="int32")
        x = OneHotEmbedding(data.classes, width)(inputs)
        if transformer:
            x = Positions()(x)
        for _ in range(depth):
            x = transformer_block(x, heads, causal=True) if transformer else recurrent(x)
        if transformer:
            x = layers.LayerNormalization(epsilon=EPSILON)(x)
        return keras.Model(inputs, layers.Dense(data.classes)(x))

    return KerasProblem("char_lm", build_model, data.data, batch_size, shuffle_buffer)
