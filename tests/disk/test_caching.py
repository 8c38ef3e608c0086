from pathlib import Path

from l2o.disk.caching import cache_folder


def test_where_results_are_cached(monkeypatch):
    assert cache_folder() is None, "tests compute"
    monkeypatch.setenv("L2O_CACHE", "/some/where")
    assert cache_folder() == Path("/some/where")
    monkeypatch.delenv("L2O_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/l2o")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/l2o")
