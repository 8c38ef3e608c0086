"""The card that `optimizer.save` writes: a template, of which one part is l2o's own."""

import json
import os
import re

import keras
import numpy as np
import pytest

import l2o
from l2o.optimizer import saved
from tests.tiny_rule import TinyOptimizer


def read(folder):
    return (folder / "README.md").read_text("utf-8")


def test_it_says_what_is_in_the_file(tmp_path):
    optimizer = l2o.RNNPropOptimizer(layers=(3,), beta_1=0.5)
    optimizer.save(tmp_path / "mine", about="Trained on a | and a * for 3 minutes")
    card = read(tmp_path / "mine")
    front = re.match(r"---\n(.*?)\n---\n\n# RNNPropOptimizer\n", card, re.DOTALL)[1]
    assert front.splitlines() == [
        "library_name: l2o", "tags:", "- l2o", "- keras", "- learned-optimizer",
    ]  # fmt: skip
    assert "\nTrained on a | and a * for 3 minutes\n" in card
    assert '\noptimizer = l2o.load("mine")\n' in card
    weights = optimizer.network.get_weights()
    assert f"with {sum(w.size for w in weights):,} learned weights" in card
    assert f"`{saved.digest(type(optimizer), weights)}`" in card
    found = dict(re.findall(r"^\* `(\w+)`: `(.*)`$", card, re.MULTILINE))
    stored = saved.read(tmp_path / "mine").options
    assert {"name": stored["name"], **{k: json.loads(v) for k, v in found.items()}} == stored
    assert found["beta_1"] == "0.5"
    assert [line for line in card.splitlines() if line.startswith("## ")] == [
        "## Training", "## Results", "## Limits",
    ]  # fmt: skip
    assert "is not a class of l2o" not in card
    assert str(tmp_path) not in card


def test_of_a_rule_of_ones_own_it_says_what_to_import(tmp_path):
    TinyOptimizer().save(tmp_path)
    assert "`TinyOptimizer` is not a class of l2o: import the module" in read(tmp_path)


def test_saved_again_only_its_own_part_changes(tmp_path):
    l2o.DMOptimizer(layers=(2,)).save(tmp_path, about=r"First \1 \g<0> <!-- /l2o --> end")
    first = read(tmp_path)
    own = first.replace("# DMOptimizer", "# Mine").replace("## Limits\n", "## Limits\n\nFew.\n")
    (tmp_path / "README.md").write_text(own, "utf-8")
    l2o.DMOptimizer(layers=(5,)).save(tmp_path, about=r"Second \1 \g<0>")
    second = read(tmp_path)
    assert second.startswith(own.partition("<!-- l2o")[0])
    assert second.endswith(own.rpartition("<!-- /l2o -->")[2])
    assert r"Second \1 \g<0>" in second
    assert "First" not in second
    assert second.count("<!-- /l2o -->") == 1
    assert re.findall("`layers`: `(.*)`", second) == ["[5]"]
    # Saved twice it is the same file.
    stamp = os.stat(tmp_path / "README.md").st_mtime_ns
    l2o.load(tmp_path).save(tmp_path, about=r"Second \1 \g<0>")
    assert (read(tmp_path), os.stat(tmp_path / "README.md").st_mtime_ns) == (second, stamp)


@pytest.mark.parametrize("content", [b"# My project\n", b"", b"\xff\xfe", b"x" * (2**20 + 1)])
def test_a_readme_of_somebody_else_stays(tmp_path, content):
    (tmp_path / "README.md").write_bytes(content)
    optimizer = l2o.DMOptimizer(layers=(2,))
    optimizer.save(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == content
    for a, b in zip(
        l2o.load(tmp_path).network.get_weights(), optimizer.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_what_is_no_file_stays_too(tmp_path):
    os.mkfifo(tmp_path / "README.md")
    l2o.DMOptimizer(layers=(2,)).save(tmp_path)
    (tmp_path / "two/README.md").mkdir(parents=True)
    l2o.DMOptimizer(layers=(2,)).save(tmp_path / "two")
    assert (tmp_path / "README.md").is_fifo()
    assert (tmp_path / "two/README.md").is_dir()


def test_nothing_is_written_of_what_cannot_be_saved(tmp_path):
    odd = l2o.DMOptimizer(layers=(2,), kernel_initializer=keras.initializers.Zeros())
    with pytest.raises(ValueError, match="Expected a plain value"):
        odd.save(tmp_path / "odd")
    assert not (tmp_path / "odd").exists()


def test_a_directory_with_an_odd_name_has_a_card(tmp_path):
    place = os.fsdecode(bytes(tmp_path) + b'/a"\xff')
    l2o.DMOptimizer(layers=(2,)).save(place)
    with open(os.path.join(place, "README.md"), encoding="utf-8") as file:
        assert 'l2o.load("a\\"\\ufffd")' in file.read()
