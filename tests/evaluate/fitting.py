"""What Keras alone makes of a model: `fit`, without the loops of l2o."""

import keras

from l2o import seeds as seeding


def fitted(problem, optimizer, steps, seed, split=None):
    """Losses of `fit` on what `run` trains on, and the final one on `split` or all of that."""
    rng = seeding.generator(seed, seeding.EVALUATION)
    model = problem.model(seeding.draw(rng))
    # To trace a few steps takes longer than to take them.
    model.compile(optimizer=optimizer, loss=problem.loss, run_eagerly=True)
    examples = problem.dataset.train.take(problem.indices(seeding.draw(rng), 0, steps).reshape(-1))
    losses = []

    class EachBatch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.reset_metrics()

        def on_train_batch_end(self, batch, logs=None):
            losses.append(logs["loss"])

    options = {"shuffle": False, "verbose": 0, "callbacks": [EachBatch()]}
    model.fit(*examples, batch_size=problem.batch_size, **options)
    x, y = (split or problem.dataset.train).all()
    return losses, model.evaluate(x, y, batch_size=len(y), verbose=0)
