"""`l2o.plain`, loaded without the rest of l2o: `import l2o` takes the seconds that Keras takes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l2o import plain
else:
    plain = sys.modules.get("l2o.plain")
    if plain is None:
        _spec = importlib.util.spec_from_file_location(
            "l2o.plain", Path(__file__).parent.parent / "l2o" / "plain.py"
        )
        plain = importlib.util.module_from_spec(_spec)
        # Under its own name: when l2o is imported, its errors are these.
        sys.modules["l2o.plain"] = plain
        _spec.loader.exec_module(plain)

DEEPEST, SPELLINGS = plain.DEEPEST, plain.SPELLINGS
LostWorkerError, UserError = plain.LostWorkerError, plain.UserError
nearest, parse_json, parse_object = plain.nearest, plain.parse_json, plain.parse_object
respelled = plain.respelled
