"""Language models: the text as data, and the models against NumPy."""

import os

import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems import char_lm
from l2o.problems.text import MOST_CHARACTERS, windows
from tests.problems import reference_models as reference

ARCHITECTURES = ("rnn", "gru", "lstm", "transformer")
TINY = {"width": 6, "depth": 2, "heads": 3, "context": 5, "batch_size": 7}


def objective_of(problem, seed=3):
    params, state = problem.init(seed)
    ids, targets = (b.numpy()[0] for b in problem.batches(0, 0, 1))
    # Biases start at 0 and would hide where they are left out.
    params = [p + 0.1 * tf.random.stateless_normal(p.shape, [i, 0]) for i, p in enumerate(params)]
    return problem.objective(params, state, (ids, targets))[0], (params, state, ids, targets)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_objective_is_that_of_the_equations(architecture):
    problem = char_lm(architecture, **TINY)
    found, arguments = objective_of(problem)
    options = {"architecture": architecture, "heads": 3, "depth": 2}
    np.testing.assert_allclose(found, reference.char_lm(*arguments, **options), rtol=1e-5)
    count = reference.count_char_lm(MOST_CHARACTERS + 1, architecture, 6, 2, 5)
    assert sum(p.shape.num_elements() for p in arguments[0]) == count


@pytest.mark.parametrize(
    "architecture",
    # That of the others follows from their equations.
    [a if a == "transformer" else pytest.param(a, marks=pytest.mark.slow) for a in ARCHITECTURES],
)
def test_what_follows_changes_nothing_before_it(architecture):
    model = char_lm(architecture, **TINY).model(0)
    ids = np.random.default_rng(0).integers(0, 96, (4, 5)).astype(np.int32)
    first = model(ids).numpy()
    for place in range(5):
        changed = ids.copy()
        changed[:, place] = (ids[:, place] + 1) % 96
        differs = np.abs(model(changed).numpy() - first).max((0, 2)) > 1e-6
        assert not differs[:place].any()
        assert differs[place:].all()


def test_a_long_context_is_a_loop_and_computes_the_same(monkeypatch):
    def operations(problem):
        params, state = problem.init(0)
        batch = tf.nest.map_structure(lambda b: b[0], problem.batches(0, 0, 1))
        traced = tf.function(problem.objective, autograph=False)
        graph = traced.get_concrete_function(params, state, batch).graph
        return any("While" in o.type for o in graph.get_operations()), traced(params, state, batch)[
            0
        ]

    unrolled, expected = operations(char_lm("lstm", **TINY))
    monkeypatch.setattr("l2o.problems.language.LONGEST_WITHOUT_LOOP", 4)
    looped, found = operations(char_lm("lstm", **TINY))
    assert looped
    assert not unrolled
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_score_is_a_loss_and_an_accuracy_per_character():
    problem = char_lm("rnn", **TINY)
    params, state = problem.init(0)
    ids, targets = problem.dataset.test.all()
    loss, accuracy = problem.score(params, state, (ids, targets))
    logits = reference.char_lm_logits(params, ids.numpy(), "rnn", depth=2)
    np.testing.assert_allclose(loss, reference.cross_entropy(logits, targets.numpy()), rtol=1e-4)
    right = np.mean(logits.argmax(-1) == targets.numpy())
    np.testing.assert_allclose(accuracy, right, atol=1e-4)


# The text.


def written(tmp_path, text):
    path = tmp_path / "text.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_windows_by_hand(tmp_path):
    # 27 of 30 characters are trained on: 9 windows of 3. c is the most frequent, then a, b, d.
    data = windows(written(tmp_path, "abcdcc" + "bac" * 7 + "xbc"), 2)
    assert data.characters == "cabd"
    assert data.classes == 5
    train, test = data.data.train, data.data.test
    assert train.inputs.tolist() == [[2, 3], [4, 1], *[[3, 2]] * 7]
    assert train.targets.tolist() == [[3, 1], [1, 1], *[[2, 1]] * 7]
    assert train.inputs.dtype == np.int32
    # x does not occur in what is trained on.
    assert (test.inputs.tolist(), test.targets.tolist()) == ([[0, 3]], [[3, 1]])


def test_what_remains_is_dropped_and_rare_characters_are_one(tmp_path):
    often = "".join(chr(200 + i) for i in range(MOST_CHARACTERS))
    text = often * 4 + "☃☂" + often
    data = windows(written(tmp_path, text), 3)
    assert set(data.characters) == set(often)
    end = len(text) - len(text) // 10
    assert data.data.train.size == end // 4
    assert data.data.test.size == (len(text) - end) // 4
    known = {character: i for i, character in enumerate(data.characters, 1)}
    ids = [known.get(character, 0) for character in text[: end // 4 * 4]]
    both = np.c_[data.data.train.inputs, data.data.train.targets[:, -1:]]
    assert both.ravel().tolist() == ids
    assert ids.count(0) == 2


def test_a_part_of_a_text_is_a_shorter_text(tmp_path):
    text = "".join(chr(97 + k * k % 26) for k in range(900))
    path = written(tmp_path, text)
    part, whole = windows(path, 4, 300), windows(written(tmp_path, text[:300]), 4)
    assert part.characters == whole.characters
    for a, b in zip(
        part.data.train + part.data.test, whole.data.train + whole.data.test, strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert part.data.train.size == 270 // 5


def test_the_default_text_comes_with_python():
    from pydoc_data.topics import topics

    data = windows(None, 32)
    assert 100_000 < 33 * (data.data.train.size + data.data.test.size) < 2_000_000
    assert data.characters[:3] == " et"
    start = "".join((" " + data.characters)[i] if i else "?" for i in data.data.train.inputs[0])
    assert start == topics[min(topics)][:32]
    assert data.classes == MOST_CHARACTERS + 1
    assert windows(None, 32) is data


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"abc", "has 3 characters: expected at least 60"),
        (b"ab" * 29 + b"a", "has 59 characters"),
        (b"", "has 0 characters"),
        (b"a" * 1000, "no character but 'a'"),
        (b"ab\xff" * 100, "byte 2 is not UTF-8"),
        (None, "cannot read .*: No such file"),
        ("directory", "cannot read .*: "),
        ("pipe", "it is not a regular file"),
        ("large", "it is larger than"),
        ("\0", "cannot read"),
        ("\ud800", "cannot read"),
        ("", "cannot read"),
    ],
    ids=str,
)
def test_texts_that_are_none(tmp_path, text, says, monkeypatch):
    path = str(tmp_path / "text.txt")
    if isinstance(text, bytes):
        written(tmp_path, text)
    elif text == "directory":
        path = str(tmp_path)
    elif text == "pipe":
        os.mkfifo(path)
    elif text == "large":
        monkeypatch.setattr("l2o.problems.text.LARGEST_TEXT", 10)
        written(tmp_path, b"ab" * 1000)
    elif text is not None:
        path = text
    with pytest.raises(UserError, match=says) as error:
        char_lm(**TINY, text=path)
    assert error.value.path == "text"
    assert len(str(error.value).splitlines()) == 1
    str(error.value).encode()


def test_the_shortest_text(tmp_path):
    problem = char_lm("rnn", 3, 1, context=5, batch_size=9, text=written(tmp_path, "ab" * 30))
    assert problem.steps_per_epoch == 1
    assert problem.dataset.test.size == 1
    with pytest.raises(UserError, match="larger than the 9 training examples of the text"):
        char_lm("rnn", 3, 1, context=5, batch_size=10, text=written(tmp_path, "ab" * 30))


def test_heads_divide_the_width():
    with pytest.raises(UserError, match="width 6 is no multiple of 4 heads") as error:
        char_lm(width=6, heads=4)
    assert error.value.path == "heads"
    assert char_lm("rnn", width=6, heads=4, context=5).name == "char_lm"
