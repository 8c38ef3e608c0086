"""HTML pages that need no other file and no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1180px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.3rem; }
p.note, figcaption { color: #555; font-size: 0.9rem; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.8rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.2rem 0.6rem 0.2rem 0; white-space: nowrap; }
th { border-bottom: 2px solid #888; font-weight: 600; }
td { border-bottom: 1px solid #e5e5e5; }
tr.learned td { background: #f3eef7; }
pre { background: #f6f6f6; padding: 0.7rem; font-size: 0.85rem; overflow-x: auto; }
summary { cursor: pointer; }
"""


class Picture(NamedTuple):
    """A PNG file's content and what it shows."""

    png: bytes
    caption: str


class Table(NamedTuple):
    """Rows of cells, the first with the titles; `emphasised` counts the rows to highlight."""

    rows: Sequence[Sequence[str]]
    emphasised: int = 0


class Folded(NamedTuple):
    """A JSON value that is hidden until the reader opens it."""

    title: str
    value: Mapping[str, Any]


class Code(NamedTuple):
    """Commands."""

    text: str


class Heading(NamedTuple):
    """The heading of a part of a section."""

    text: str


# A string is a paragraph.
Part = str | Picture | Table | Folded | Code | Heading


def page(title: str, subtitle: str, sections: Mapping[str, Iterable[Part]]) -> str:
    """Returns a page of HTML.

    Args:
        title: Title of the page.
        subtitle: Line under the title.
        sections: Parts of each section by heading; a section without parts is left out.
    """
    body = [f"<h1>{escape(title)}</h1>", f'<p class="note">{escape(subtitle)}</p>']
    for heading, parts in sections.items():
        written = [_written(part) for part in parts]
        if written:
            body += [f"<h2>{escape(heading)}</h2>", *written]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _written(part: Part) -> str:
    if isinstance(part, Picture):
        data = base64.b64encode(part.png).decode()
        caption = escape(part.caption)
        image = f'<img src="data:image/png;base64,{data}" alt="{caption}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Folded):
        text = escape(json.dumps(part.value, indent=2))
        return f"<details><summary>{escape(part.title)}</summary><pre>{text}</pre></details>"
    if isinstance(part, Code):
        return f"<pre>{escape(part.text)}</pre>"
    if isinstance(part, Heading):
        return f"<h3>{escape(part.text)}</h3>"
    return f"<p>{escape(part)}</p>"


def _table(table: Table) -> str:
    titles, *rows = table.rows
    head = "".join(f"<th>{escape(cell)}</th>" for cell in titles)
    body = []
    for i, row in enumerate(rows):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        kind = ' class="learned"' if i < table.emphasised else ""
        body.append(f"<tr{kind}>{cells}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
