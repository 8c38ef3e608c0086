"""What long work prints while it runs."""

import io
import sys

import pytest

from l2o import progress as module
from l2o.progress import Live


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds, as the progress sees them; add to its only element."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_elsewhere_than_on_a_terminal_a_line_every_ten_seconds(clock, capsys):
    with Live() as live:
        for second in range(41):
            clock[0] = 100.0 + second
            live.update(f"step {second}", second / 80)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        " 12% step 10", " 25% step 20", " 38% step 30", " 50% step 40",
    ]  # fmt: skip
    assert lines[-1] == " 50% step 40, 0:40 left"


def test_the_time_left_does_not_count_the_first_step_forward_which_compiles(clock, capsys):
    with Live() as live:
        # Resumed in the middle, and 30 seconds until anything is done.
        for now, done in [(0, 0.5), (30, 0.51), (40, 0.52), (60, 0.54), (800, 1.0)]:
            clock[0] = 100.0 + now
            live.update("step", done)
    left = [line.split(", ")[1] for line in capsys.readouterr().out.splitlines()]
    assert left == ["?:?? left", "8:00 left", "7:40 left", "0:00 left"]


def test_lines_that_stay_come_no_oftener_and_the_last_one_comes(clock, capsys):
    with Live() as live:
        for second in range(25):
            clock[0] = 100.0 + second
            live.update(f"step {second}", None)
            live.line(f"period {second}")
        live.end("finished")
    # What waits comes before what is newer; the last of them whenever it ends.
    assert capsys.readouterr().out.splitlines() == [
        "period 9",
        "period 19",
        "period 24",
        "finished",
    ]


def test_a_line_after_a_long_time_comes_at_once(clock, capsys):
    with Live() as live:
        clock[0] += 11
        live.line("period 0")
        assert capsys.readouterr().out == "period 0\n"
        live.line("period 1")
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == "period 1\n"


def test_what_was_said_last_is_printed_when_it_is_cut_off(clock, capsys):
    def cut_off():
        with Live() as live:
            live.line("period 0")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert capsys.readouterr().out == "period 0\n"


def test_on_a_terminal_every_line_stays_above_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with Live() as live:
        live.update("step 1", 0.25)
        for k in range(3):
            live.line(f"[period {k}]")
        live.end("finished")
    written = terminal.getvalue()
    for words in ("[period 0]", "[period 1]", "[period 2]", "finished"):
        assert words in written
