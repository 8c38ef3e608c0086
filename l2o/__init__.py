"""l2o: optimizers that are small neural networks, meta-trained, then used like Adam."""

import l2o.plain as _plain  # noqa: F401  config/plain.py expects it
from l2o.starting import is_command as _is_command
from l2o.version import __version__ as __version__

if _is_command():

    def __getattr__(name: str) -> object:
        """Returns a public name; the first one imports TensorFlow, for which --help never waits."""
        if name.startswith("_"):
            raise AttributeError(f"module 'l2o' has no attribute {name!r}")
        from importlib import import_module

        api = import_module("l2o.api")
        if name not in api.__all__:
            raise AttributeError(f"module 'l2o' has no attribute {name!r}")
        return getattr(api, name)

else:
    from l2o.api import *  # noqa: F403
    from l2o.api import __all__ as __all__
