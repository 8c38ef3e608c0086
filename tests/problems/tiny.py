"""Each kind of Keras model that a config can choose, small."""

from l2o.problems import (
    RandomLabels,
    autoencoder,
    char_lm,
    mixer_classifier,
    mlp_classifier,
    residual_classifier,
    vae,
    vit_classifier,
)

TEXT = {"width": 4, "depth": 1, "heads": 2, "context": 4, "batch_size": 8}
PATCHES = {"width": 4, "depth": 1, "patch_size": 4, "batch_size": 8}
CODED = {"width": 3, "latent": 2, "batch_size": 8}
PROBLEMS = {
    "transformer": lambda: char_lm(**TEXT),
    "lstm": lambda: char_lm("lstm", **TEXT),
    "gru": lambda: char_lm("gru", **TEXT),
    "rnn": lambda: char_lm("rnn", **TEXT),
    "vit": lambda: vit_classifier(heads=2, **PATCHES),
    "mixer": lambda: mixer_classifier(**PATCHES),
    "residual": lambda: residual_classifier(2, 1, batch_size=8),
    "autoencoder": lambda: autoencoder("conv", **CODED),
    "vae": lambda: vae(**CODED),
    "mlp": lambda: mlp_classifier([3], batch_size=8, normalization="layer", dropout=0.2),
    "batch norm": lambda: mlp_classifier([3], batch_size=8, normalization="batch"),
}
WRAPPED = {"labels": lambda: RandomLabels(mlp_classifier([3], batch_size=8), groups=3)}
