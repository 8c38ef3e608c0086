"""The draws that a test leaves to chance."""

import random

import numpy as np


def same_draws(seed=0):
    """Makes the next draws of Keras' initializers and layers the same each time.

    Keras draws its seeds from `random`. `keras.utils.set_random_seed` sets TensorFlow's seed too,
    which makes TensorFlow forget all its kernels: that takes longer than most tests.
    """
    random.seed(seed)
    np.random.seed(seed)
