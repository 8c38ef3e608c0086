"""Name -> object, for everything that a config chooses by name."""

from __future__ import annotations

from typing import Generic, TypeVar

from l2o.errors import UserError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """A closed set of named objects: names come from code, never from data.

    Args:
        kind: What an object is called in messages (``"optimizer"``).
        entries: The objects by name.
    """

    def __init__(self, kind: str, entries: dict[str, T]) -> None:
        self.kind = kind
        self.entries = entries

    def find(self, name: object, path: str = "") -> T:
        """Returns the object called `name`.

        Args:
            name: A registered name.
            path: The config path that chose it, for the message.

        Raises:
            UserError: If there is no such object; lists the names and the nearest one.
        """
        if isinstance(name, str) and name in self.entries:
            return self.entries[name]
        raise UserError(
            f"no {self.kind} called {name!r}{nearest(str(name), self.entries)}; "
            f"expected one of: {', '.join(sorted(self.entries))}",
            path,
        )
