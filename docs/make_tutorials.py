"""Runs the notebooks of docs/tutorials and keeps their outputs: `python docs/make_tutorials.py`.

With names (`first rule`) only those. See `make tutorials`.
"""

import base64
import hashlib
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent / "tutorials"


def main(names: list[str]) -> None:
    """Runs notebooks, each in a directory of its own, and writes them back."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["PYTHONPATH"] = str(HERE.parent.parent)
    for path in [HERE / f"{name}.ipynb" for name in names] or sorted(HERE.glob("*.ipynb")):
        start = time.monotonic()
        book = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as directory:
            resources = {"metadata": {"path": directory}}
            NotebookClient(book, timeout=None, resources=resources).execute()
        tidy(book)
        nbformat.write(book, path)
        print(f"{path.name}: {time.monotonic() - start:.0f} s, {path.stat().st_size >> 10} kB")


def tidy(book: nbformat.NotebookNode) -> None:
    """Removes what differs from run to run and from machine to machine."""
    for cell in book.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            # Warnings, which depend on the machine and on what was compiled before.
            kept = [
                output
                for output in cell.outputs
                if output.get("name") != "stderr"
                and not output.get("text", "").startswith("WARNING:tensorflow")
            ]
            cell.outputs = []
            for output in kept:
                if "text" in output:
                    output.text = re.sub(r"^ *\d+% .* left\n", "", output.text, flags=re.MULTILINE)
                # A warning may have stood between two lines.
                if "text" in output and cell.outputs and "text" in cell.outputs[-1]:
                    cell.outputs[-1].text += output.text
                else:
                    cell.outputs.append(output)
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    # The text would be the object's address.
                    output.data = {"image/png": smaller(output.data["image/png"])}
                    output.metadata = {}
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        # Outputs belong to this code.
        "sha256": digest([cell.source for cell in book.cells if cell.cell_type == "code"]),
    }


def smaller(picture: str) -> str:
    """Returns a picture, a PNG as text, with 64 colours."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    packed = io.BytesIO()
    # Other methods drop the colour of a thin line.
    image.quantize(64, Image.Quantize.FASTOCTREE).save(packed, "png", optimize=True)
    return base64.b64encode(packed.getvalue()).decode()


def digest(sources: list[str]) -> str:
    """Returns the SHA-256 of the code of a notebook."""
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
