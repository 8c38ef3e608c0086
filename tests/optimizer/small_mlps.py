"""What the tests of the rules with small MLPs share."""

import numpy as np
import tensorflow as tf

SHAPES = [(5, 3), (3, 5), (4, 4), (6,), (), (2, 3, 4, 3), (1, 6), (7, 1)]
STEPS = 8


def randomize(optimizer, seed=1):
    """Weights of some size everywhere, so that none of them can go missing unseen."""
    rng = np.random.default_rng(seed)
    small = {"momentum_theta", "rms_theta", "factored_theta"}
    optimizer.set_learned_weights(
        [
            rng.normal(size=w.shape) * (0.01 if w.name in small else 0.4)
            for w in optimizer.network.weights
        ]
    )


def assert_follows(optimizer, references, shapes, rtol):
    """Eight steps from drawn parameters, with gradients of very different sizes.

    Args:
        optimizer: The rule.
        references: For each tensor, what takes the same steps in NumPy.
        shapes: Of the tensors.
        rtol: Largest difference, relative to the largest change of a tensor.
    """
    rng = np.random.default_rng(2)
    params = [rng.normal(size=shape) for shape in shapes]
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    state = optimizer.initial_state(specs)
    for _ in range(STEPS):
        grads = [rng.normal(size=s) * 10 ** rng.uniform(-4, 4) for s in shapes]
        given = [[tf.constant(x, tf.float32) for x in tensors] for tensors in (params, grads)]
        deltas, state = optimizer.update(*given, state)
        for i, (delta, reference) in enumerate(zip(deltas, references, strict=True)):
            expected = reference.step(*(given[k][i].numpy().astype(np.float64) for k in (0, 1)))
            largest = np.abs(expected).max()
            assert largest > 0
            np.testing.assert_allclose(
                delta, expected, rtol=rtol, atol=rtol * largest, err_msg=str(shapes[i])
            )
            params[i] = params[i] + expected * 0.01 / largest
