import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from l2o.disk.files import (
    locked,
    make_folder,
    read_regular,
    remove_temporary,
    write_atomically,
)
from l2o.errors import UserError


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_signal_after_the_new_name_is_no_error_of_its_own(tmp_path, monkeypatch):
    replace = os.replace

    def interrupted(*names):
        replace(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "f", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("f", b"new")]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs")
    (tmp_path / "f").symlink_to(outside)
    write_atomically(tmp_path / "f", b"ours")
    assert outside.read_bytes() == b"theirs"
    assert (tmp_path / "f").read_bytes() == b"ours"
    assert not (tmp_path / "f").is_symlink()


def test_only_what_a_crash_leaves_is_removed(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    # A dead process removes nothing.
    monkeypatch.setattr(os, "fsync", killed)
    monkeypatch.setattr(os, "unlink", killed)
    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(Killed):
        write_atomically(tmp_path / "summary.csv", b"new")
    monkeypatch.undo()
    mine = ["notes.tmp", ".notes.tmp", ".notes.01234567.tmp", ".summary.csv.tmp", "summary.csv"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".summary.csv.00000000.tmp").mkdir()
    assert len(list(tmp_path.iterdir())) == 7
    remove_temporary(tmp_path, ["summary.csv"])
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == sorted([*mine, ".summary.csv.00000000.tmp"])


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"12345")
    for name, reason in (("pipe", "regular"), (".", "regular"), ("large", "larger")):
        with pytest.raises(OSError, match=reason):
            read_regular(tmp_path / name, 4)
    with pytest.raises(OSError, match="regular"):
        read_regular("/dev/zero", 4)
    assert read_regular(tmp_path / "large", 5) == b"12345"


def test_a_folder_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "inside").symlink_to(tmp_path)
    with pytest.raises(OSError, match="is a link"):
        make_folder(tmp_path / "inside")


# Another process, without the seconds that importing TensorFlow takes.
HOLD = textwrap.dedent("""
    import os, sys, types
    package = types.ModuleType("l2o"); package.__path__ = ["l2o"]; sys.modules["l2o"] = package
    train = types.ModuleType("l2o.train"); train.__path__ = ["l2o/train"]
    sys.modules["l2o.train"] = train
    from pathlib import Path
    from l2o.disk.files import locked
    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
""")


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_the_first_is(tmp_path, holder):
    with (
        pytest.raises(UserError, match=rf"being written by process {holder.pid} on .* since 20"),
        locked(tmp_path / ".lock"),
    ):
        pass
    assert str(holder.pid) in (tmp_path / ".lock").read_text(), "nothing was changed"
    holder.communicate()
    with locked(tmp_path / ".lock"):
        assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_death_releases_the_lock(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock"):
        assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()


def test_a_lock_file_that_its_owner_has_just_removed_is_no_lock(tmp_path, monkeypatch):
    import fcntl

    path, flock = tmp_path / ".lock", fcntl.flock
    opened = []

    def late(handle, how):
        opened.append(handle)
        if len(opened) == 1:
            path.unlink()
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(path):
        assert len(opened) == 2
        assert path.read_text().startswith("process")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lock_that_is_no_file_is_refused(tmp_path, kind):
    outside = tmp_path / "outside"
    path = tmp_path / ".lock"
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"symbolic|regular|directory"), locked(path):
        pass
    assert not outside.exists()
