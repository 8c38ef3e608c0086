"""Layers that several models share."""

from __future__ import annotations

import keras
from keras import layers, ops

EPSILON = 1e-5


class OneHotEmbedding(layers.Layer):
    """A row of a table for each integer, as `keras.layers.Embedding`, with a dense gradient.

    Keras' optimizers treat the sparse gradient of `Embedding` differently, and models that have
    one cannot be evaluated side by side. For small tables the product costs little.

    Args:
        rows: Number of rows; inputs are integers below it.
        width: Length of a row.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = rows
        # Rules that treat embeddings apart know them by this name.
        self.embeddings = self.add_weight((rows, width), "uniform", name="embeddings")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Returns [..., width] floats for integers [...]."""
        return ops.matmul(ops.one_hot(x, self.rows, dtype=self.compute_dtype), self.embeddings)


class Positions(layers.Layer):
    """Adds a learned vector to each place of a sequence [batch, places, width]."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the vectors."""
        normal = keras.initializers.RandomNormal(stddev=0.02)
        self.embeddings = self.add_weight(shape[1:], normal, name="embeddings")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the sums."""
        return x + self.embeddings


def transformer_block(x: keras.KerasTensor, heads: int, causal: bool) -> keras.KerasTensor:
    """Returns a pre-norm transformer block's output: self-attention, then an MLP, each with a skip.

    This is the block of GPT-2 (Radford et al. 2019) and ViT (Dosovitskiy et al. 2021). The MLP
    has a hidden layer of four times the width, with GELU.

    Args:
        x: [batch, places, width].
        heads: Number of heads; a divisor of the width.
        causal: Whether a place sees only itself and the places before it.
    """
    places, width = x.shape[1:]

    def split(y: keras.KerasTensor) -> keras.KerasTensor:
        return layers.Reshape((places, heads, width // heads))(y)

    # Not `MultiHeadAttention`: its initializers clone themselves, so first values could not be
    # had without building a model for each seed.
    normed = layers.LayerNormalization(epsilon=EPSILON)(x)
    query, key, value = (split(layers.Dense(width)(normed)) for _ in range(3))
    seen = ops.dot_product_attention(query, key, value, is_causal=causal)
    x += layers.Dense(width)(layers.Reshape((places, width))(seen))
    return x + mlp(layers.LayerNormalization(epsilon=EPSILON)(x), 4 * width)


def mlp(x: keras.KerasTensor, hidden: int) -> keras.KerasTensor:
    """Returns an MLP of the last axis that keeps its length: one hidden layer, with GELU."""
    features = layers.Dense(hidden, "gelu")(x)
    return layers.Dense(x.shape[-1])(features)
