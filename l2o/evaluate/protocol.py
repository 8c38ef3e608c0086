"""The protocols: which baselines there are, what is tuned, and with which schedule."""

from __future__ import annotations

from typing import NamedTuple

from l2o.errors import UserError, nearest
from l2o.evaluate.baselines import BASELINES, Baseline
from l2o.evaluate.schedules import SCHEDULES
from l2o.keras_optimizers import KERAS_OPTIMIZERS
from l2o.registry import Registry

# The loss that tuning minimises. "validation" is that of training examples which the models of the
# tuning do not train on.
TUNED_FOR = ("training", "validation")
# Weight decays of learned optimizers. They are multiplied by the rate, which is about 1, while that
# of AdamW is about 0.03: hence smaller ones than AdamW2D's.
LEARNED_DECAYS = (0.0, 0.001, 0.01, 0.1)


class Protocol(NamedTuple):
    """How optimizers are made comparable.

    baselines: Labels of `BASELINES`, Adam among them.
    schedule: A name of `SCHEDULES`, for learned optimizers and baselines alike.
    tune_learned: Whether the learning rate of learned optimizers is tuned too.
    tuning_seeds: Number of models that each setting is tuned on; None: as many as are scored.
    tuned_for: One of `TUNED_FOR`.
    tune_weight_decay: Whether the weight decay of learned optimizers is tuned with their rate, see
        `LEARNED_DECAYS`.
    """

    baselines: tuple[str, ...] = ("SGD", "Momentum", "RMSprop", "Adam", "AdamW")
    schedule: str = "constant"
    tune_learned: bool = False
    tuning_seeds: int | None = None
    tuned_for: str = "training"
    tune_weight_decay: bool = False

    def chosen(self) -> list[Baseline]:
        """Returns the baselines."""
        return [BASELINES.entries[label] for label in self.baselines]

    def learned_decays(self) -> tuple[float | None, ...]:
        """Returns the weight decays that a learned optimizer is tuned at; None: its own."""
        return LEARNED_DECAYS if self.tune_weight_decay else (None,)


PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    {
        "default": Protocol(),
        "tuned": Protocol(
            baselines=("Momentum", "Adam", "AdamW2D", "Nadam", "Muon", "Lion"),
            schedule="warmup_cosine",
            tune_learned=True,
            tuning_seeds=3,
        ),
    },
)


def protocol_of(
    name: str | None = None,
    baselines: str | None = None,
    schedule: str | None = None,
    tune_learned: bool | None = None,
    tuning_seeds: int | None = None,
    tuned_for: str | None = None,
    tune_weight_decay: bool | None = None,
) -> Protocol:
    """Returns a protocol with what was given instead of its own.

    Args:
        name: A registered protocol ["default"].
        baselines: Labels of baselines, separated by commas; Adam is added, because times and
            speed-ups are relative to it [those of the protocol].
        schedule: A registered schedule [that of the protocol].
        tune_learned: See `Protocol` [as the protocol].
        tuning_seeds: See `Protocol` [as the protocol].
        tuned_for: See `Protocol` [as the protocol].
        tune_weight_decay: See `Protocol` [as the protocol].

    Raises:
        UserError: If there is no protocol, schedule, baseline or loss of that name, or the weight
            decay is to be tuned without the rate.
    """
    protocol = PROTOCOLS.find(name or "default", "--protocol")
    if baselines is not None:
        labels = baselines.split(",")
        for label in labels:
            BASELINES.find(label, "--baselines")
        if len(set(labels)) < len(labels):
            raise UserError(f"expected each baseline once; got {baselines}", "--baselines")
        protocol = protocol._replace(
            baselines=(*labels, *(["Adam"] if "Adam" not in labels else []))
        )
    for one in protocol.chosen():
        # Older versions of Keras have no Muon.
        KERAS_OPTIMIZERS.find(one.kind, "--baselines")
    if schedule is not None:
        SCHEDULES.find(schedule, "--schedule")
        protocol = protocol._replace(schedule=schedule)
    if tune_learned is not None:
        protocol = protocol._replace(tune_learned=tune_learned)
    if tuning_seeds is not None:
        protocol = protocol._replace(tuning_seeds=tuning_seeds)
    if tuned_for is not None:
        if tuned_for not in TUNED_FOR:
            raise UserError(
                f"expected {' or '.join(TUNED_FOR)}; got {tuned_for!r}"
                f"{nearest(tuned_for, TUNED_FOR)}",
                "--tune-for",
            )
        protocol = protocol._replace(tuned_for=tuned_for)
    if tune_weight_decay is not None:
        protocol = protocol._replace(tune_weight_decay=tune_weight_decay)
    if protocol.tune_weight_decay and not protocol.tune_learned:
        raise UserError("expected --tune-learned too", "--tune-weight-decay")
    return protocol
