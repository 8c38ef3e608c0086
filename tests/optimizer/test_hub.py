"""`l2o.load("hf://user/name")` and `optimizer.push_to_hub`, against a server on loopback."""

import importlib.util
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import l2o
from l2o.errors import UserError
from l2o.optimizer import hub, saved
from tests.hub_server import serving

ROOT = Path(__file__).parents[2]
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None,
    reason="huggingface_hub is not installed: pip install '.[test]'",
)
NO_SERVER = "http://127.0.0.1:1"  # nothing listens there


def small(units=2):
    return l2o.DMOptimizer(layers=(units,))


def packed(optimizer, tmp_path):
    optimizer.save(tmp_path / "packed")
    return (tmp_path / "packed/optimizer.npz").read_bytes()


def same(a, b):
    pairs = zip(a.network.get_weights(), b.network.get_weights(), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def point(monkeypatch, url):
    """Lets the package talk to a server, as HF_ENDPOINT does before it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def server(tmp_path, monkeypatch):
    from huggingface_hub import constants

    with serving() as server:
        point(monkeypatch, server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        # A protocol of compiled code, between client and store.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
        monkeypatch.chdir(tmp_path)
        yield server


def one_line(error):
    (line,) = str(error.value).splitlines()
    return line


@needs_package
def test_what_was_pushed_is_loaded_by_name(server, tmp_path):
    optimizer = small()
    address = optimizer.push_to_hub("user/small", about="Tested")
    commit, files = server.files("user/small")
    assert address == f"hf://user/small@{commit}"
    assert same(l2o.load("hf://user/small"), optimizer)
    assert same(l2o.load(address, learning_rate=0.5, clipnorm=1.0), optimizer)
    assert server.private == set()
    # The same files as those of `save`.
    optimizer.save(tmp_path / "small", about="Tested")
    own = {path.name: path.read_bytes() for path in (tmp_path / "small").iterdir()}
    assert own.keys() == {"optimizer.npz", "README.md"}
    assert files.keys() - {".gitattributes"} == own.keys()
    assert files["optimizer.npz"] == own["optimizer.npz"]
    card = files["README.md"].decode()
    assert card == own["README.md"].decode().replace('"small"', '"hf://user/small"')
    assert card.startswith("---\nlibrary_name: l2o\ntags:\n- l2o\n")
    assert 'l2o.load("hf://user/small")' in card
    assert str(tmp_path) not in own["README.md"].decode()


@needs_package
@pytest.mark.parametrize("large", [set(), {"optimizer.npz"}])
def test_files_are_sent_as_the_server_wants_them(server, large):
    server.large = large
    small().push_to_hub("user/small", private=True)
    assert bool(server.blobs) == bool(large)
    assert server.private == {"user/small"}
    assert server.files("user/small")[1]["optimizer.npz"].startswith(b"PK")


@needs_package
def test_a_revision_is_pinned(server):
    first, second = small(), small()
    pinned = first.push_to_hub("user/small")
    commit = pinned.rpartition("@")[2]
    server.repositories["user/small"][1]["v1"] = commit
    server.repositories["user/small"][1]["a/branch"] = commit
    second.push_to_hub("user/small")
    assert same(l2o.load("hf://user/small"), second)
    for revision in (commit, "v1", "a/branch"):
        assert same(l2o.load(f"hf://user/small@{revision}"), first)
    # A commit that is in the cache is not asked for again.
    server.asked.clear()
    assert same(l2o.load(pinned), first)
    assert server.asked == []


@needs_package
def test_what_is_missing_is_told_in_one_line(server):
    small().push_to_hub("user/small")
    server.create("user/empty")
    for address, message in [
        ("hf://user/none", "there is no repository user/none, or it is private"),
        ("hf://user/small@v9", "user/small has no revision v9: expected a branch, a tag or a"),
        ("hf://user/small@" + "0" * 40, "user/small has no revision 0000"),
        ("hf://user/empty", r"user/empty has no optimizer.npz, which `optimizer.push_to_hub`"),
    ]:
        with pytest.raises(UserError, match=message) as error:
            l2o.load(address)
        assert one_line(error).startswith(f"cannot fetch {address}: ")


@needs_package
def test_without_a_network_the_cache_answers_or_one_line(server, monkeypatch):
    optimizer = small()
    pinned = optimizer.push_to_hub("user/small")
    l2o.load("hf://user/small")
    point(monkeypatch, NO_SERVER)
    # The package tries again after 1, 2, 4, 8 and 8 seconds.
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for address in (pinned, "hf://user/small"):
        assert same(l2o.load(address), optimizer)
    with pytest.raises(UserError, match="there is no connection to the Hub, and it is not in the"):
        l2o.load("hf://user/other")
    with pytest.raises(UserError, match=r"cannot push to hf://user/small: .*[Cc]onnect") as error:
        optimizer.push_to_hub("user/small")
    one_line(error)


@needs_package
@pytest.mark.parametrize(
    ("status", "reason"), [(400, "Bad"), (401, "log in"), (403, "log in"), (500, "Server")]
)
def test_a_refusal_is_told_in_one_line(server, status, reason):
    server.refusal = status
    with pytest.raises(UserError, match=rf"cannot push to hf://user/small: .*{reason}") as error:
        small().push_to_hub("user/small")
    one_line(error)
    assert server.repositories == {}


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@needs_package
def test_nothing_but_the_optimizer_is_downloaded_and_nothing_runs(server, tmp_path):
    optimizer = small()
    server.create("user/odd")
    evil = pickle.dumps(Payload(tmp_path / "escaped"))
    others = ["model.pkl", "optimizer.py", "__init__.py", "config.json", "model.keras", "a.npy"]
    whole = packed(optimizer, tmp_path)
    server.commit("user/odd", {"optimizer.npz": whole, **dict.fromkeys(others, evil)})
    assert same(l2o.load("hf://user/odd"), optimizer)
    assert {path.rpartition("/")[2] for path in server.downloaded()} == {"optimizer.npz"}
    names = {p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()}
    assert not names & set(others)
    # The one file that is read may hold anything too.
    for damaged in (evil, b"import os", whole[:-1], b""):
        server.commit("user/odd", {"optimizer.npz": damaged})
        with pytest.raises(UserError, match="not a saved optimizer, or is damaged") as error:
            l2o.load("hf://user/odd")
        one_line(error)
    assert not (tmp_path / "escaped").exists()


@needs_package
def test_a_card_that_was_filled_in_is_kept(server, tmp_path):
    small().push_to_hub("user/small", about="First")
    written = server.files("user/small")[1]["README.md"].decode()
    mine = written.replace("## Limits", "## Limits\n\nIt has none.").replace("# DM", "# My DM")
    server.commit("user/small", {"README.md": mine.encode()})
    small(3).push_to_hub("user/small", about="Second")
    after = server.files("user/small")[1]["README.md"].decode()
    assert "It has none." in after
    assert "# My DM" in after
    assert "Second" in after
    assert "First" not in after
    assert "`layers`: `[3]`" in after
    # A card from elsewhere takes the place of the one that is there.
    small(4).push_to_hub("user/small", card="Only this.")
    assert server.files("user/small")[1]["README.md"] == b"Only this."
    small(4).save(tmp_path / "four")
    text = (tmp_path / "four/README.md").read_text() + "\nOf four units.\n"
    small(4).push_to_hub("user/small", card=text)
    after = server.files("user/small")[1]["README.md"].decode()
    assert after.endswith("Of four units.\n")
    assert 'l2o.load("hf://user/small")' in after


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://user", "hf://user/", "hf://user/name@", "hf://user/name/more", "hf:///name",
     "hf://user/../x", "hf://user/..", "hf://user/x@../y", "hf://user/x@a/../../b",
     "hf://user/na me", "hf://us@er/name", "hf://user/name@a b", "hf://ü/name"],
)  # fmt: skip
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(UserError, match=r"expected hf://user/name, or hf://user/name@revision"):
        l2o.load(address)


@pytest.mark.parametrize("name", ["name", "user/name@main", "", "a/b/c", 3, "hf://user/name@v1"])
def test_a_name_that_cannot_be_pushed_to_is_refused(name):
    with pytest.raises(UserError, match=r"expected (hf://)?user/name"):
        small().push_to_hub(name)


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "huggingface_hub" else find(name)
    )
    for act in (lambda: l2o.load("hf://user/name"), lambda: small().push_to_hub("user/name")):
        with pytest.raises(UserError) as error:
            act()
        assert one_line(error) == (
            "hf://user/name needs huggingface_hub: pip install huggingface_hub"
        )


def test_a_saved_optimizer_of_the_hub_has_no_periods():
    with pytest.raises(UserError, match="hf://user/name is a saved optimizer: it has no periods"):
        l2o.load("hf://user/name", period=3)


@needs_package
@pytest.mark.usefixtures("quick_periods")
def test_a_run_starts_from_one_and_keeps_it(server, tmp_path):
    from l2o.train.session import start

    optimizer = small()
    optimizer.push_to_hub("user/small", about="Tested")
    config = {
        "constructor": "DM",
        "network": {"layers": [2]},
        "problems": [{"target": "Quadratic", "kwargs": {"dimensions": 2}}],
        "training": {"repeat": 1},
        "strategy": {"num_periods": 1, "epochs_per_period": 1, "unroll_distribution": 2},
        "initial_weights": "hf://user/small",
        "directory": "run",
    }
    start(config)
    run = l2o.train.RunDirectory("run")
    found = run.read_config()
    digest = saved.digest(l2o.DMOptimizer, optimizer.network.get_weights())
    assert (found["initial_weights"], found["initial_weights_sha256"]) == (
        "hf://user/small", digest,
    )  # fmt: skip
    teachers = [{"class_name": "l2o", "config": {"directory": "hf://user/small"}}]
    training = {"repeat": 1, "teachers": teachers, "p_teacher": 1.0}
    start({**config, "training": training, "initial_weights": None, "directory": "taught"})
    config = l2o.train.RunDirectory("taught").read_config()
    assert len(config["training"]["teachers"][0]["config"]["sha256"]) == 64


@needs_package
def test_an_evaluation_names_it_and_writes_beside(server, tmp_path, monkeypatch):
    from l2o.evaluate import session
    from l2o.evaluate.evaluation import Request

    small().push_to_hub("user/small")
    small().push_to_hub("other/small")
    one, two = "hf://user/small", "hf://other/small"
    assert list(session._load_all(Request([one]))) == ["small"]
    assert list(session._load_all(Request([one, two]))) == [one, two]
    assert list(session._load_all(Request([f"{one}@main"]))) == ["small"]
    assert session._place(f"{one}@main") == "small"
    assert session._place("runs/small") == "runs/small"


# What a user types, with the package's own environment variables: it starts Python.
@needs_package
@pytest.mark.slow
def test_a_program_loads_one(server, tmp_path):
    small().push_to_hub("user/small")
    code = (
        "import l2o\n"
        "print(l2o.load('hf://user/small').name)\n"
        "try: l2o.load('hf://user/none')\n"
        "except l2o.UserError as error: print(error)\n"
    )
    place = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        check=True,
    )
    name, refusal = done.stdout.splitlines()
    assert re.fullmatch(r"dm_?optimizer(_\d+)?|DMOptimizer", name)
    assert refusal.startswith("cannot fetch hf://user/none: there is no repository")
    assert (tmp_path / "home/hub/models--user--small").is_dir()


def test_an_address_is_taken_apart():
    assert hub.parse("hf://user/name") == ("user/name", None)
    assert hub.parse("hf://us.er/na-me_1@refs/pr/1") == ("us.er/na-me_1", "refs/pr/1")
    assert hub.name_of("hf://user/name@v1.0") == "name"
    assert not any(map(hub.is_address, ["user/name", Path("hf://user/name"), "hf:/user/name", 3]))
