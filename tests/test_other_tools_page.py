"""docs/other-tools.md: its programs run where the tools are, and are programs anywhere."""

import ast
import importlib
import re

import pytest

from l2o.train import RunDirectory
from l2o.train.runs.summary import Row
from tests.pages import ROOT, blocks

PROGRAMS = blocks("docs/other-tools.md")
TOOLS = ["wandb", "mlflow", "keras_tuner", "scikeras"]


def program(tool):
    (found,) = [b for b in PROGRAMS if re.search(rf"^(import|from) {tool}\b", b, re.MULTILINE)]
    return found


def test_each_tool_has_a_program():
    assert len(PROGRAMS) == len(TOOLS)
    for tool in TOOLS:
        for node in ast.walk(ast.parse(program(tool))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("l2o"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_its_keys_are_those_that_there_are():
    page = (ROOT / "docs/other-tools.md").read_text("utf-8")
    table = page.split("| key | value |")[1].split("\n\n")[0]
    keys = re.findall(r"`(\w+)`", table)
    assert set(keys) - {"directory", "number"} <= set(Row._fields)


# The tools are no dependencies of the tests.
@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS)
def test_its_programs_run(tool, tmp_path, monkeypatch):
    pytest.importorskip(tool)
    if tool == "mlflow":
        pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(program(tool), f"<{tool}>", "exec"), names)
    if tool in ("wandb", "mlflow"):
        assert len(RunDirectory(f"run-{tool}").rows()) == 2
    if tool == "wandb":
        assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    if tool == "mlflow":
        client = importlib.import_module("mlflow").MlflowClient()
        history = client.get_metric_history(names["logged"].info.run_id, "validation_loss")
        assert {metric.step: metric.value for metric in history} == {
            k: row.validation_loss for k, row in enumerate(RunDirectory("run-mlflow").rows(), 1)
        }
    if tool == "keras_tuner":
        assert names["found"]["optimizer"].endswith("-digits")
    if tool == "scikeras":
        assert names["search"].best_score_ > 0.7
