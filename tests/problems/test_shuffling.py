"""The order of the examples: equal to shuffling each epoch anew, whatever was asked before."""

import numpy as np
import pytest

from l2o import seeds
from l2o.problems import shuffling
from l2o.problems.shuffling import Shuffling

BATCH = 4


def expected(buffer, examples, start, count, *name):
    """The mini-batches, with every epoch from the first one shuffled anew."""
    per_epoch, batches = examples // BATCH, []
    for epoch in range((start + count) // per_epoch + 1):
        rng = seeds.generator(name[0], epoch, *name[1:])
        if buffer >= examples:
            order = rng.permutation(examples)
        else:
            order = np.argsort(np.arange(examples) + rng.uniform(0, buffer, examples))
        batches += [order[i * BATCH : (i + 1) * BATCH] for i in range(per_epoch)]
    return np.array(batches[start : start + count])


@pytest.mark.parametrize("buffer", [0, 3, 100])
def test_it_is_as_if_every_epoch_were_shuffled_anew(buffer):
    rng, shuffled = np.random.default_rng(0), Shuffling(buffer, BATCH)
    asked = [
        (int(rng.choice([21, 22])), int(rng.integers(0, 20)), int(rng.integers(1, 9)), int(seed))
        + tuple(rng.choice([2, 3], rng.integers(0, 2)).tolist())
        for seed in rng.integers(0, 3, 200)
    ]
    for call in asked:
        np.testing.assert_array_equal(shuffled(*call), expected(buffer, *call))
        assert shuffled(*call).dtype == np.int64


@pytest.mark.parametrize("kept", [0, 100, 2**26])
def test_an_epoch_is_shuffled_once_while_it_is_kept(kept, monkeypatch):
    monkeypatch.setattr(shuffling, "LARGEST_KEPT", kept)
    drawn, generator = [], seeds.generator
    monkeypatch.setattr(seeds, "generator", lambda *name: drawn.append(name) or generator(*name))
    shuffled = Shuffling(100, BATCH)
    # Two optimizees in turn, for two epochs of 3 mini-batches (96 bytes); then the first again.
    for start in range(6):
        for seed in (5, 6):
            shuffled(12, start, 1, seed)
    shuffled(12, 0, 1, 5)
    assert len(drawn) == (4 if kept > 100 else 13)
    assert sum(order.nbytes for order in shuffled._kept.values()) <= kept


def test_what_was_returned_may_be_changed():
    shuffled = Shuffling(100, BATCH)
    first = shuffled(12, 0, 2, 0).copy()
    shuffled(12, 0, 2, 0)[:] = -1
    np.testing.assert_array_equal(shuffled(12, 0, 2, 0), first)
