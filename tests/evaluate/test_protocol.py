import pytest

from l2o.errors import UserError
from l2o.evaluate import protocol as module
from l2o.evaluate.protocol import Protocol, protocol_of


def test_the_default_is_what_it_always_was():
    assert protocol_of() == Protocol(
        ("SGD", "Momentum", "RMSprop", "Adam", "AdamW"), "constant", False, None, "training"
    )


def test_tuned_is_short_for_flags_and_flags_override_it():
    tuned = protocol_of("tuned")
    assert tuned == protocol_of(
        baselines=",".join(tuned.baselines), schedule="warmup_cosine", tune_learned=True,
        tuning_seeds=3,
    )  # fmt: skip
    assert "AdamW2D" in tuned.baselines
    changed = protocol_of("tuned", "Lion", "cosine", False, 1, "validation")
    assert changed == Protocol(("Lion", "Adam"), "cosine", False, 1, "validation")
    assert protocol_of("tuned", tune_weight_decay=True) == tuned._replace(tune_weight_decay=True)
    assert tuned.learned_decays() == (None,)


def test_adam_is_always_one():
    assert protocol_of(baselines="SGD,Adam").baselines == ("SGD", "Adam")
    assert [one.label for one in protocol_of(baselines="SGD").chosen()] == ["SGD", "Adam"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "tune"}, r"--protocol: .*did you mean tuned\?"),
        ({"schedule": "cosin"}, r"--schedule: .*did you mean cosine\?"),
        ({"baselines": "Adam,Moun"}, r"--baselines: .*'Moun' \(did you mean Muon\?\)"),
        ({"tuned_for": "test"}, "--tune-for: expected training or validation; got 'test'"),
        ({"tuned_for": "validatoin"}, r"--tune-for: .* \(did you mean validation\?\)"),
        ({"tune_weight_decay": True}, "--tune-weight-decay: expected --tune-learned too"),
        (
            {"name": "tuned", "tune_learned": False, "tune_weight_decay": True},
            "--tune-weight-decay: expected --tune-learned too",
        ),
        ({"baselines": "adam"}, "--baselines: no baseline called 'adam'"),
        ({"baselines": ""}, "--baselines: no baseline called ''"),
        ({"baselines": "Adam,Lion,Adam"}, "--baselines: expected each baseline once"),
    ],
)
def test_wrong_names_are_said(given, words):
    with pytest.raises(UserError, match=words) as error:
        protocol_of(**given)
    assert len(str(error.value).splitlines()) == 1


def test_an_older_keras_has_no_muon(monkeypatch):
    monkeypatch.delitem(module.KERAS_OPTIMIZERS.entries, "Muon")
    with pytest.raises(UserError, match="--baselines: no Keras optimizer called 'Muon'"):
        protocol_of("tuned")
    assert protocol_of("tuned", baselines="Lion").baselines == ("Lion", "Adam")
