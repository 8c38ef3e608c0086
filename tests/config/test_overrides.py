import json

import pytest

from config.overrides import merge, merge_all, merge_overrides, parse_override
from l2o.plain import UserError


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("strategy/num_periods=5", ("strategy", "num_periods"), 5),
        ("constructor=RNNProp", ("constructor",), "RNNProp"),
        ("network/layers=[20, 20]", ("network", "layers"), [20, 20]),
        ("training/persistent=true", ("training", "persistent"), True),
        ("training/imitation_optimizer=null", ("training", "imitation_optimizer"), None),
        ("directory=a=b", ("directory",), "a=b"),
        ("network/name=", ("network", "name"), ""),
        ('network/name="5"', ("network", "name"), "5"),
        # Begins like a number that is not finite.
        ("directory=8e999ab1", ("directory",), "8e999ab1"),
        ("directory=__import__('os')", ("directory",), "__import__('os')"),
    ],
)
def test_values_are_json_or_else_strings(text, path, value):
    assert parse_override(text) == (path, value)


@pytest.mark.parametrize(
    "text",
    [
        "strategy",
        "=5",
        "a//b=1",
        "/a=1",
        "a/=1",
        "a=NaN",
        "a=[1e999]",
        "a=[1e999, " + "[" * 10**5,
        "a=" + "9" * 400,
        "a=-9223372036854775808",
    ],
)
def test_what_is_no_override_is_refused(text):
    with pytest.raises(UserError):
        parse_override(text)


def test_objects_merge_and_lists_are_replaced():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(base, {"a": {"y": [3]}}) == {"a": {"x": 1, "y": [3]}, "b": 1}
    assert base["a"]["y"] == [1, 2], "the base is not changed"


def test_another_constructor_drops_the_options_of_the_one_it_replaces():
    base = {"constructor": "DM", "network": {"p": 5}, "strategy": {"num_periods": 3}}
    merged = merge_overrides(base, ["network/alpha=0.2", "constructor=RNNProp"])
    assert merged["network"] == {"alpha": 0.2}
    assert merged["strategy"] == {"num_periods": 3}
    assert merge_overrides(base, ["constructor=DM"])["network"] == {"p": 5}


@pytest.mark.parametrize("key", ["strategy_constructor", "strategy/strategy_constructor"])
def test_another_strategy_drops_the_options_of_the_one_it_replaces(key):
    base = {"strategy_constructor": "Simple", "strategy": {"num_periods": 3}}
    merged = merge_overrides(base, [f"{key}=CurriculumLearning", "strategy/max_stages=2"])
    assert merged == {
        "strategy_constructor": "CurriculumLearning",
        "strategy": {"max_stages": 2},
    }


def test_options_of_no_choice_stay_when_one_is_made():
    base = {
        "network": {"step_size": 0.01},
        "strategy": {"num_periods": 3},
        "problems": [{"kwargs": {"layers": [4]}}],
    }
    made = merge_overrides(
        base,
        ["constructor=Celo2", "strategy_constructor=Simple", "problems/0/target=mlp_classifier"],
    )
    assert made["network"] == {"step_size": 0.01}
    assert made["strategy"] == {"num_periods": 3}
    assert made["problems"] == [{"target": "mlp_classifier", "kwargs": {"layers": [4]}}]
    assert merge_overrides(made, ["constructor=DM"]).get("network") is None


def test_another_class_or_target_drops_the_arguments_of_the_one_it_replaces():
    base = {
        "optimizer": {"class_name": "Adam", "config": {"beta_1": 0.5}},
        "problems": [{"target": "Booth", "args": [1], "kwargs": {"noise": 1}, "wrappers": []}],
    }
    merged = merge_overrides(
        base,
        ["optimizer/config/momentum=0.9", "optimizer/class_name=SGD", "problems/0/target=Beale"],
    )
    assert merged == {
        "optimizer": {"config": {"momentum": 0.9}, "class_name": "SGD"},
        "problems": [{"target": "Beale", "wrappers": []}],
    }
    assert merge_overrides(base, ["optimizer/class_name=Adam"]) == base
    layer = {"optimizer": {"class_name": "SGD", "config": {"nesterov": True}}}
    assert merge(base, layer)["optimizer"] == layer["optimizer"]
    # Adam is what no class_name means.
    unnamed = {"optimizer": {"config": {"beta_1": 0.5}}}
    assert merge_overrides(unnamed, ["optimizer/class_name=Adam"])["optimizer"]["config"]
    assert "config" not in merge_overrides(unnamed, ["optimizer/class_name=SGD"])["optimizer"]


# Options with another spelling: see `l2o.plain.SPELLINGS`.


@pytest.mark.parametrize("typed", ["training/second_derivatives", "estimator/second_derivatives"])
@pytest.mark.parametrize("base", ["training", "estimator", "none"])
def test_an_override_wins_however_it_is_spelled(typed, base):
    given = {"training": {"epochs": 2}}
    if base != "none":
        given.setdefault(base, {})["second_derivatives"] = True
    merged = merge_overrides(given, [f"{typed}=false"])
    assert merged == {"training": {"epochs": 2}, "estimator": {"second_derivatives": False}}


def test_a_section_that_is_typed_whole_may_have_another_spelling():
    base = {"training": {"epochs": 2}, "estimator": {"second_derivatives": False}}
    text = 'training={"depth": 3, "second_derivatives": true}'
    assert merge_overrides(base, [text]) == {
        "training": {"depth": 3},
        "estimator": {"second_derivatives": True},
    }
    base = {"strategy_constructor": "Simple", "strategy": {"num_periods": 3}}
    text = 'strategy={"strategy_constructor": "CurriculumLearning", "max_stages": 2}'
    assert merge_overrides(base, [text]) == {
        "strategy_constructor": "CurriculumLearning",
        "strategy": {"max_stages": 2},
    }


def test_two_spellings_with_two_values_are_refused(tmp_path, monkeypatch):
    typed = ["estimator/second_derivatives=true", "training/second_derivatives=false"]
    for overrides in (typed, typed[::-1]):
        with pytest.raises(UserError, match=r"^training/second_derivatives: .*expected one value"):
            merge_overrides({}, overrides)
    path = tmp_path / "a.json"
    path.write_text(
        '{"training": {"second_derivatives": true}, "estimator": {"second_derivatives": false}}'
    )
    from config import overrides

    monkeypatch.setattr(overrides, "PRESETS", tmp_path)
    for arguments in ([str(path)], [None, ["a"]]):
        with pytest.raises(UserError, match=r"^training/second_derivatives: .*expected one value"):
            merge_all(*arguments)


def test_a_preset_wins_over_the_file_however_they_are_spelled(tmp_path, monkeypatch):
    from config import overrides

    monkeypatch.setattr(overrides, "PRESETS", tmp_path)
    new, old = ({section: {"second_derivatives": True}} for section in ("estimator", "training"))
    for i, (first, last) in enumerate(((new, old), (old, new))):
        (tmp_path / f"{i}.json").write_text(json.dumps(first))
        last = {section: {"second_derivatives": False} for section in last}
        (tmp_path / f"{i}last.json").write_text(json.dumps(last))
        merged = merge_all(presets=[f"{i}", f"{i}last"])
        assert merged["estimator"] == {"second_derivatives": False}
        assert "second_derivatives" not in merged["training"]


def test_another_estimator_drops_the_options_of_the_one_it_replaces():
    base = {"training": {"second_derivatives": True}}
    assert merge_overrides(base, ["estimator_constructor=TruncatedBackprop"])["estimator"] == {
        "second_derivatives": True
    }
    assert "estimator" not in merge_overrides(base, ["estimator_constructor=Other"])


def test_paths_lead_into_lists_by_number():
    config = {"problems": [{"target": "mlp_classifier"}]}
    merged = merge_overrides(config, ["problems/0/kwargs/dataset=mnist"])
    assert merged["problems"] == [{"target": "mlp_classifier", "kwargs": {"dataset": "mnist"}}]
    added = merge_overrides(config, ["problems/1/target=Booth", "problems/2/target=Beale"])
    assert [spec["target"] for spec in added["problems"]] == ["mlp_classifier", "Booth", "Beale"]
    teacher = merge_overrides(config, ["training/teachers/0/class_name=SGD"])["training"]
    assert teacher == {"teachers": [{"class_name": "SGD"}]}
    for wrong in ("problems/2/target=x", "problems/x/target=x", "problems/-1/target=x"):
        with pytest.raises(UserError, match="0 to 1"):
            merge_overrides(config, [wrong])
    with pytest.raises(UserError, match="problems/0/target has no options"):
        merge_overrides(config, ["problems/0/target/deeper=x"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1', "not JSON"),
        (b"[1]", "expected a JSON object"),
        (b'{"a": NaN}', "finite"),
        (b'{"a": {"b": 1, "b": 2}}', "stands twice"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a":' + b"[" * 200000 + b"]" * 200000 + b"}", "nested too deeply"),
        (b'{"a": "' + b"x" * 2**20 + b'"}', "larger"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, content, reason):
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as error:
        merge_all(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_missing_preset_are_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        merge_all(str(tmp_path / "none.json"))
    with pytest.raises(UserError, match="no preset called 'none'"):
        merge_all(presets=["none"])


def test_layers_are_default_then_presets_then_overrides(tmp_path, monkeypatch):
    from config import overrides

    monkeypatch.setattr(overrides, "PRESETS", tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"seed": 1, "strategy": {"num_periods": 7}}))
    (tmp_path / "b.json").write_text(json.dumps({"seed": 2}))
    merged = merge_all(presets=["a", "b"], overrides=["strategy/epochs_per_period=1"])
    assert merged["seed"] == 2
    assert merged["strategy"] == {"num_periods": 7, "epochs_per_period": 1}
    assert merged["problems"] == merge_all()["problems"]
