"""docs/scaling.md: what it says to type works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from l2o.train import RunDirectory
from l2o.train.distributed.cluster import cluster
from tests.scripts import LEARNS
from tests.workers import free_ports

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/scaling.md").read_text("utf-8")


def block(name):
    (text,) = re.findall(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", PAGE, re.S)
    return text


def bash(cwd, script, programs, **environment):
    """Runs a script with programs of our own on its PATH."""
    own = cwd / "bin"
    own.mkdir()
    for name, text in programs.items():
        (own / name).write_text(f"#!/bin/bash\n{text}\n")
        (own / name).chmod(0o755)
    environment = {**os.environ, **environment, "PATH": f"{own}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.slow
def test_two_workers_on_one_machine(tmp_path):
    script = block("loopback")
    ports = free_ports(2)
    for old, new in zip(("2222", "2223"), ports, strict=True):
        assert f"localhost:{old}" in script
        script = script.replace(old, str(new))
    # The rest of the job as small as it goes.
    tiny = " ".join(f"'{option}'" for option in LEARNS)
    script = script.replace("constructor=RNNProp", f"constructor=RNNProp {tiny}")
    l2o = f'PYTHONPATH={ROOT} exec {sys.executable} -m l2o "$@"'
    printed = bash(tmp_path, script, {"l2o": l2o})
    assert "2 replicas of 2 workers" in printed
    assert len(RunDirectory(tmp_path / "runs/two").rows()) == 2


def test_slurm_gives_each_task_its_place(tmp_path):
    scontrol = '[ "$*" = "show hostnames node[3-6]" ] && printf "node%s\\n" 3 4 5 6'
    srun = '[ $1 = --kill-on-bad-exit=1 ] && shift; for i in 0 3; do SLURM_PROCID=$i "$@"; done'
    l2o = 'echo "$TF_CONFIG" | tr -d "\\n"; echo; echo "$@"'
    programs = {"scontrol": scontrol, "srun": srun, "l2o": l2o}
    first, line, last, _ = bash(
        tmp_path, block("slurm"), programs, SLURM_JOB_NODELIST="node[3-6]"
    ).splitlines()
    addresses = [f"node{i}:2222" for i in (3, 4, 5, 6)]
    assert cluster(first) == (addresses, 0)
    assert cluster(last) == (addresses, 3)
    assert "distribute=multi_worker" in line
    assert "training/batch_of_problems=16" in line


def test_kubernetes_gives_each_pod_its_place(tmp_path):
    manifest = block("kubernetes")
    (script,) = re.findall(r"- \|\n(.*?)        volumeMounts", manifest, re.S)
    l2o = 'echo "$TF_CONFIG" | tr -d "\\n"; echo; echo "$@"'
    text, line = bash(
        tmp_path, script, {"l2o": l2o}, COUNT="4", JOB_COMPLETION_INDEX="2"
    ).splitlines()
    assert cluster(text) == ([f"l2o-{i}.l2o:2222" for i in range(4)], 2)
    assert "distribute=multi_worker" in line
    assert 'name: COUNT, value: "4"' in manifest
    assert "completions: 4" in manifest
