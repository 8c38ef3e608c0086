"""What `config` and `l2o` share: errors, strict JSON, spellings of options."""

import json

import pytest

import l2o.errors
from l2o.plain import SPELLINGS, UserError, nearest, parse_json, parse_object, respelled


def test_there_is_one_class_of_errors():
    assert l2o.errors.UserError is l2o.UserError is UserError
    assert l2o.errors.nearest is nearest


def test_an_error_is_one_printable_line():
    error = UserError("a\nb\x1b[31m" + "x" * 2000, "some/path\n")
    assert (error.message[:9], error.path) == (r"a\nb\x1b[", r"some/path\n")
    assert str(error).isprintable()
    assert len(str(error)) < 1100


def test_the_nearest_name():
    assert nearest("num_period", ["num_periods", "seed"]) == " (did you mean num_periods?)"
    assert nearest("x", ["num_periods"]) == ""


@pytest.mark.parametrize(
    "text",
    ['{"a": [1, -2.5e3, true, null, "x"]}', "5", '"x"', "[]", str(2**63 - 1), str(1 - 2**63)],
)
def test_json_is_read_as_python_reads_it(text):
    assert parse_json(text) == parse_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", ["", "{", "five", "[1,]", "{'a': 1}", "01", "tru"])
def test_what_is_no_json_at_all_is_told_apart(text):
    with pytest.raises(json.JSONDecodeError):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "finite numbers; got NaN"),
        ("[-Infinity]", "finite numbers; got -Infinity"),
        ('{"a": 1e999}', "finite numbers; got 1e999"),
        (str(2**63), "63 bits"),
        (str(-(2**63)), "63 bits"),
        ("9" * 5000, "63 bits"),
        ('[{"a": 1, "b": 2, "a": 1}]', "'a' stands twice"),
        (b'"\xff"', "UTF-8"),
        ("[" * 51 + "]" * 51, "nested too deeply"),
        ('{"a":' * 51 + "1" + "}" * 51, "nested too deeply"),
        ("[" * 900 + "]" * 900, "nested too deeply"),
        ("[" * 200000 + "]" * 200000, "nested too deeply"),
    ],
)
def test_what_only_python_takes_for_json_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason) as error:
        parse_json(text)
    assert not isinstance(error.value, json.JSONDecodeError)


def test_nesting_that_is_just_deep_enough():
    assert parse_json("[" * 50 + "]" * 50)
    assert parse_json('{"a":' * 50 + "1" + "}" * 50)


def test_an_object_is_expected():
    assert parse_object(b'{"a": 1}') == {"a": 1}
    for text in ("[1]", "5", "null"):
        with pytest.raises(ValueError, match="expected a JSON object"):
            parse_object(text)


def at(path, value):
    """A config with one value at a path."""
    for name in reversed(path):
        value = {name: value}
    return value


@pytest.mark.parametrize(("spelling", "place"), SPELLINGS.items())
def test_each_spelling_has_its_place(spelling, place):
    given = {**at(spelling, "x"), "seed": 1}
    before = json.dumps(given)
    assert respelled(given) == {spelling[0]: {}, **at(place, "x"), "seed": 1}
    assert json.dumps(given) == before, "it is not changed"
    assert respelled(at(place, "x")) == at(place, "x")
    both = {**at(spelling, "x"), **at(place, "x")}
    assert respelled(both) == {spelling[0]: {}, **at(place, "x")}
    with pytest.raises(UserError, match="/".join(spelling) + ': .*"y".*"x"'):
        respelled({**at(place, "x"), **at(spelling, "y")})
