import base64

from l2o.evaluate.report import html
from l2o.evaluate.report.html import Code, Folded, Heading, Picture, Table, page
from tests.evaluate.report.reader import Reader

HOSTILE = "<script>alert('1')</script> & \"q\""


def test_everything_is_on_the_page_and_well_formed():
    read = Reader(
        page(
            "a title",
            "a subtitle",
            {
                "first": [
                    "words", Heading("a part"), Table([["x", "y"], ["1", "2"], ["3", "4"]], 1),
                ],
                "second": [Picture(b"png", "shown"), Folded("open me", {"k": [1]}), Code("ls")],
                "nothing": [],
            },
        )
    )  # fmt: skip
    text = "".join(read.text)
    for expected in ("a title", "a subtitle", "words", "a part", "shown", "open me", '"k"', "ls"):
        assert expected in text
    assert "nothing" not in text
    assert len(read.all("h2")) == 2
    assert [row.get("class") for row in read.all("tr")] == [None, "learned", None]
    assert len(read.all("td")) == 4
    (image,) = read.all("img")
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == b"png"
    assert image["alt"] == "shown"


def test_nothing_that_is_given_becomes_markup():
    parts = [
        HOSTILE, Heading(HOSTILE), Table([[HOSTILE], [HOSTILE]]), Picture(b"", HOSTILE),
        Folded(HOSTILE, {HOSTILE: HOSTILE}), Code(HOSTILE),
    ]  # fmt: skip
    read = Reader(page(HOSTILE, HOSTILE, {HOSTILE: parts}))
    assert read.all("script") == []
    assert "".join(read.text).count("alert('1')") == 13


def test_it_needs_no_other_file():
    text = page("t", "s", {"a": [Picture(b"x", "c"), "p"]}) + html.STYLE
    for word in ("http", "url(", "<link", "<script", "@import"):
        assert word not in text
