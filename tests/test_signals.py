"""Signals, full disks and closed pipes, in small processes that do not import TensorFlow."""

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# l2o/signals.py needs nothing of the package, whose import takes seconds.
HEAD = """
import runpy, sys, time
signals = runpy.run_path("l2o/signals.py")
signals["stoppable"].__wrapped__.__globals__.update(PATIENCE=0.5)
def farewell():
    return "how to go on"
"""
GOOD = "with signals['stoppable'](farewell): print('ready', flush=True); time.sleep(60)"
DEAF = """
with signals["stoppable"](farewell):
    said = False
    while True:  # as a compiled unroll, which Python cannot interrupt
        try:
            said = said or not print("ready", flush=True)
            time.sleep(60)
        except BaseException:
            pass
"""


def start(code):
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("code", [GOOD, DEAF], ids=["good", "deaf"])
def test_a_signal_ends_it_soon(code, number):
    process = start(HEAD + code)
    process.send_signal(number)
    # It sleeps for a minute.
    out, _ = process.communicate(timeout=30)
    # The signal may come between the word and the note that it has been said.
    assert out.replace("ready\n", "") == "how to go on\n"
    # Python's own answer to an uncaught KeyboardInterrupt is to die of the signal.
    died = number == signal.SIGINT and code != DEAF
    assert process.returncode == (-number if died else 128 + number)


@pytest.mark.parametrize("reader", ["gone", "stopped"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_reader_of_the_output_does_not_keep_it(number, reader):
    # More than a pipe holds.
    code = DEAF.replace("time.sleep(60)", "print('x' * 10**6)") if reader == "stopped" else DEAF
    process = start(HEAD + code)
    if reader == "gone":
        process.stdout.close()
    process.send_signal(number)
    assert process.wait(timeout=30) == 128 + number
    process.stderr.close()


def test_soon_is_less_than_five_seconds():
    signals = runpy.run_path(str(ROOT / "l2o/signals.py"))
    assert signals["PATIENCE"] + signals["LAST_WORDS"] <= 4


def test_nothing_is_left_behind_where_there_was_no_signal():
    code = HEAD + (
        "import signal, threading\n"
        "before = [signal.getsignal(n) for n in (2, 15)]\n"
        "with signals['stoppable'](farewell): pass\n"
        "assert before == [signal.getsignal(n) for n in (2, 15)]\n"
        "assert signal.set_wakeup_fd(-1) == -1\n"
        "time.sleep(0.2); assert threading.active_count() == 1\n"
        "print('ready', flush=True)\n"
    )
    process = start(code)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


RUN = "import sys\nfrom config.command_line import run\n"


def run(code, stdout=subprocess.PIPE):
    return subprocess.run(
        [sys.executable, "-c", RUN + code],
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def main(): raise KeyboardInterrupt", (130, ["-c: interrupted"])),
        ("import os, signal\ndef main(): os.kill(os.getpid(), signal.SIGTERM)", (143, [])),
        ("def main(): print(1)", (0, [])),
        (
            "def main(): raise OSError(28, 'No space left on device')",
            (2, ["-c: cannot write: No space left on device"]),
        ),
    ],
)
def test_the_ends_of_a_script(code, expected):
    done = run(f"{code}\nrun(main)")
    assert (done.returncode, done.stderr.splitlines()) == expected


def test_a_second_signal_changes_nothing():
    code = """
import os, signal, atexit
def again():
    for number in (2, 15):
        os.kill(os.getpid(), number)
atexit.register(again)
def main():
    os.kill(os.getpid(), signal.SIGINT)
run(main)
"""
    done = run(code)
    assert (done.returncode, done.stderr) == (130, "-c: interrupted\n")


def test_a_reader_that_has_gone_ends_it_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run("def main(): print('x' * 100000)\nrun(main)", stdout=writer)
        small = run("def main(): print('x')\nrun(main)", stdout=writer)
    finally:
        os.close(writer)
    assert [(d.returncode, d.stderr) for d in (done, small)] == [(141, "")] * 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that Linux has")
def test_output_to_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = run("def main(): print('x')\nrun(main)", stdout=full)
    assert (done.returncode, done.stderr) == (2, "-c: cannot write: No space left on device\n")
