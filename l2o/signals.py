"""Ctrl-C and SIGTERM end a script soon, whatever it is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)
# Seconds that what runs has to end by itself, and that the last words may take.
PATIENCE = 3.0
LAST_WORDS = 0.5


@contextmanager
def stoppable(farewell: Callable[[], str] | None = None) -> Iterator[None]:
    """Within it a signal raises KeyboardInterrupt or SystemExit, and ends the process in any case.

    Python handles a signal between two of its own instructions, and a compiled unroll is one
    instruction that may take an hour. So a thread waits for signals too, and ends the process
    where it has not ended by itself after `PATIENCE` seconds, also where somebody has caught
    the exception. What is written within it has to be written so that it may end anywhere.

    For scripts, in the main thread.

    Args:
        farewell: Returns what is printed at the end [nothing].
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    said = threading.Lock()

    def say() -> None:
        # Whoever reads it may have gone.
        with suppress(OSError, ValueError):
            if farewell and said.acquire(blocking=False):
                print(farewell(), flush=True)

    def wait() -> None:
        while number := os.read(reader, 1):
            if number[0] in ENDING:
                timer = threading.Timer(PATIENCE, end, [number[0]])
                timer.daemon = True
                timer.start()
        os.close(reader)

    def end(number: int) -> None:
        # A reader that has stopped reading would keep it for ever.
        words = threading.Thread(target=say, daemon=True)
        words.start()
        words.join(LAST_WORDS)
        os._exit(128 + number)

    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.getsignal(number) for number in ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)
    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        say()
        raise
    finally:
        signal.set_wakeup_fd(wakeup)
        os.close(writer)
        for number, handler in before.items():
            # None: of somebody who is not Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _terminate(number: int, _: Any) -> None:
    sys.exit(128 + number)
