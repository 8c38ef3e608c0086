"""Whether this process is the command `l2o`."""

import os
import sys


def is_command() -> bool:
    """Returns whether `l2o ...` or `python -m l2o ...` has started this process."""
    argv = getattr(sys, "argv", None) or [""]
    # This is what it is while Python looks for the module.
    if argv[0] == "-m":
        return sys.orig_argv[-len(argv)] == "l2o"
    # It may have been started by a link with another name.
    return os.path.basename(os.path.realpath(argv[0])) == "l2o"
