"""Installs a wheel or an sdist into a fresh environment, and uses it there: `make smoke`.

    python tests/smoke.py [--borrow] dist/*.whl dist/*.tar.gz

With --borrow the dependencies are those of this Python; without it they are installed too.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

JOB = ["strategy/epochs_per_period=2", "training/epochs=1", "problems/0/kwargs/layers=[4]"]
# What a user types, in a folder of its own. The last words of each are in what it prints.
COMMANDS = [
    (["l2o", "--version"], "l2o "),
    (["l2o", "list"], "rnnprop-digits"),
    (["l2o", "card", "dm-digits"], "l2o train --preset dm-digits"),
    (
        ["l2o", "train", "constructor=RNNProp", "strategy/num_periods=1", "directory=x", *JOB],
        "next",
    ),
    (["l2o", "resume", "x", "strategy/num_periods=2"], "next: l2o evaluate x"),
    (["l2o", "evaluate", "x", "--steps", "5", "--seeds", "2"], "x/report.html is written"),
    (["l2o", "train", "--preset", "dm-digits", "--initialize", "directory=y"], "l2o resume y"),
    (["python", "-m", "l2o", "baseline", "--steps", "5", "--seeds", "2"], "best learning rate"),
    (
        [
            "python",
            "-c",
            "import importlib.util, os, l2o\n"
            "print(l2o.load('x').name, l2o.load('rnnprop-digits').name, l2o.__version__)\n"
            "assert not importlib.util.find_spec('config')\n"
            "print('from', os.path.dirname(l2o.__file__))\n",
        ],
        "site-packages",
    ),
]


def smoke(package: Path, borrow: bool) -> None:
    """Installs a package and runs the commands.

    Raises:
        SystemExit: If one fails, or writes to where the package is installed.
    """
    with tempfile.TemporaryDirectory(prefix="l2o-smoke-") as folder:
        home, here = Path(folder, "environment"), Path(folder, "here")
        here.mkdir()
        venv.create(home, with_pip=True)
        (site,) = home.glob("lib/python3*/site-packages")
        python = str(home / "bin/python")
        if borrow:
            # A path alone: the .pth files there, of an editable l2o, do not count.
            (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        options = ["--no-deps"] if borrow else []
        call([python, "-m", "pip", "install", "--quiet", *options, str(package)], here)
        installed = files(site)
        for path in [site, *site.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
        environment = {
            **os.environ,
            "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": folder,
            # Results that are there would not be computed.
            "L2O_CACHE": str(here / "cache"),
        }
        environment.pop("PYTHONPATH", None)
        for words, expected in COMMANDS:
            printed = call(words, here, environment)
            if expected not in printed:
                sys.exit(
                    f"{package.name}: {' '.join(words)} does not print {expected!r}:\n{printed}"
                )
            print(f"{package.name}: {' '.join(words).splitlines()[0][:70]}", flush=True)
        # The superuser may write where nobody may.
        if changed := sorted(map(str, installed.symmetric_difference(files(site)))):
            sys.exit(f"{package.name} writes to where it is installed: {changed[:5]}")
        for path in [site, *site.rglob("*/")]:
            path.chmod(0o755)


def files(folder: Path) -> set[tuple[Path, int]]:
    """Returns the files in a folder with the times when they were changed."""
    return {(path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def call(words: list[str], cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Runs a command; returns what it prints."""
    done = subprocess.run(
        words,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} ends with {done.returncode}:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="+", type=Path)
    parser.add_argument("--borrow", action="store_true")
    given = parser.parse_args()
    for package in given.packages:
        smoke(package.resolve(), given.borrow)
