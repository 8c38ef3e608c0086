"""The one exception that means "the user's input is wrong", never "the code is"."""

from l2o.plain import LostWorkerError, UserError, nearest

__all__ = ["LostWorkerError", "UserError", "nearest"]
