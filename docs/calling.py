"""How the programs of this folder call the scripts of the clone."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def call(script: str, *arguments: str) -> None:
    """Runs a script of the clone; where it fails, the program ends with the same exit code."""
    done = subprocess.run([sys.executable, str(ROOT / script), *arguments], check=False)
    if done.returncode:
        # It has said what is wrong.
        sys.exit(done.returncode)
