"""Runs of several worker processes on the loopback interface, as tests want them."""

import json
import os
import socket
import subprocess
import sys
import time

from tests.scripts import ROOT


def free_ports(count):
    """Ports that nobody has at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(cwd, name, *arguments, count=2, of_worker=()):
    """Starts `count` processes of a script, each a worker; `of_worker` has more arguments."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(count)]}
    workers = []
    for i in range(count):
        config = {"cluster": cluster, "task": {"type": "worker", "index": i}}
        more = dict(enumerate(of_worker)).get(i, [])
        workers.append(
            subprocess.Popen(
                [sys.executable, str(ROOT / f"{name}.py"), *arguments, *more],
                cwd=cwd,
                env={**os.environ, "TF_CONFIG": json.dumps(config)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return workers


def end(workers, timeout=120):
    """Waits for all of them; returns (exit code, stdout, stderr) of each."""
    try:
        ends = [worker.communicate(timeout=timeout) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [(w.returncode, *texts) for w, texts in zip(workers, ends, strict=True)]


def succeed(cwd, name, *arguments, count=2):
    """Runs workers that have to end well and write nothing to stderr; returns their output."""
    ends = end(start(cwd, name, *arguments, count=count))
    assert [(code, stderr) for code, _, stderr in ends] == [(0, "")] * count, ends
    return [stdout for _, stdout, _ in ends]


def wait_for(path, workers, seconds=120):
    """Waits until a file is there, as long as all of them live."""
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.01)
    assert path.exists()
