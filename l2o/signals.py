"""Ctrl-C and SIGTERM end a script within seconds, whatever it is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)
# Seconds before the process is ended, and seconds for printing the farewell.
PATIENCE = 3.0
LAST_WORDS = 0.5


@contextmanager
def stoppable(farewell: Callable[[], str] | None = None) -> Iterator[None]:
    """Makes signals raise KeyboardInterrupt or SystemExit, and end the process in any case.

    Python handles a signal between two of its own instructions, and a compiled unroll is one
    instruction that may take an hour. So a thread waits for signals too. It ends the process
    `PATIENCE` seconds later if that is still running, even if the exception was caught. So
    code in the block may end anywhere, and must write files accordingly.

    For scripts, in the main thread.

    Args:
        farewell: Returns the text to print at the end [None: nothing].
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    printed = threading.Lock()

    def print_farewell() -> None:
        # The reader of the output may have gone.
        with suppress(OSError, ValueError):
            if farewell and printed.acquire(blocking=False):
                print(farewell(), flush=True)

    def wait() -> None:
        while number := os.read(reader, 1):
            if number[0] in ENDING:
                timer = threading.Timer(PATIENCE, end, [number[0]])
                timer.daemon = True
                timer.start()
        os.close(reader)

    def end(number: int) -> None:
        # Printing blocks if the reader of the output has stopped reading.
        printing = threading.Thread(target=print_farewell, daemon=True)
        printing.start()
        printing.join(LAST_WORDS)
        os._exit(128 + number)

    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.getsignal(number) for number in ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)
    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        print_farewell()
        raise
    finally:
        signal.set_wakeup_fd(wakeup)
        os.close(writer)
        for number, handler in before.items():
            # None: a handler that was not installed from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _terminate(number: int, _: Any) -> None:
    sys.exit(128 + number)
