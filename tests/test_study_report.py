"""The report: one file, nothing fetched, formulas shown, claims first."""

import json
import re

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import dnslib
from dnslib.errors import MisuseError
from dnslib.study import provenance, report
from dnslib.study.notebooks import Notebook

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HOSTILE = (
    "<img src='https://example.org/a.png'><script src='//example.org/x.js'></script>"
    "<link rel=stylesheet href='https://example.org/s.css'><iframe src='http://example.org'></iframe>"
    "<audio controls src='data:audio/flac;base64,AAAA'></audio><a href='https://example.org/paper'>paper</a>"
    "<svg><image href='https://example.org/i.png'/></svg><input type='image' src='https://example.org/b.png'>"
    "<p style='color: red; background: url(https://example.org/c.png)'>red</p>"
    "<style>@import url('https://example.org/d.css'); p { background: URL( \"//example.org/e.png\" ) }</style>"
)


TABLE = pd.DataFrame({"name": ["P.500"], "parameters": [2356257]})


def toy(name: str, path) -> Notebook:
    return Notebook(name, path, name, (), ())


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> BeautifulSoup:
    """The report of two toy notebooks with the same headings, one of them hostile; a third is not executed."""
    outputs = tmp_path_factory.mktemp("out")
    picture = new_output("display_data", {"image/png": PIXEL, "text/plain": "figure"})
    stream = new_output("stream", name="stdout", text="a < b & \x1b[31mred\x1b[0m")
    formulas = r"The rule $c_4 \leftarrow (1-p)\,c_4$ and" + "\n\n" + r"$$L=\sum_{j \in J}\lVert W_j\rVert$$"
    text = f"# Method\n\n{formulas}\n\n## Results\n\n## Results\n\n[up](#Method)"
    cells = [new_markdown_cell(text), new_code_cell("secret = 1", outputs=[picture, stream], execution_count=1)]
    nbformat.write(new_notebook(cells=cells), outputs / "03_method.ipynb")
    hostile = new_output("display_data", {"text/html": HOSTILE})
    table = new_output("display_data", {"text/html": dnslib.display.table(TABLE, caption="one table, twice").to_html()})
    second = [
        new_markdown_cell("# Sparsity & speed\n\n## Results"),
        new_code_cell("x", outputs=[hostile]),
        *(new_code_cell("y", outputs=[table]) for _ in range(2)),
    ]
    nbformat.write(new_notebook(cells=second), outputs / "05_3.ipynb")
    (outputs / "results").mkdir()
    (outputs / "results" / "claims.csv").write_text(
        'id,statement,verdict\nC1,"GRUs, mostly",reproduced\nC2,a < b,not reproduced\nC3,x,not decided by this run\n'
    )
    facts = {"profile": "quick", "commit": "0123456789abcdef", "dirty": True, "cpu": "Some CPU", "threads": 2}
    (outputs / "results" / "provenance.json").write_text(json.dumps(facts))
    names = ("03_method", "05_3", "06_missing")
    path = report.write([toy(name, outputs / f"{name}.ipynb") for name in names], outputs, "quick")
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"id,statement,verdict\nC1,a"])
def test_a_damaged_table_of_claims_is_told_and_ends_nothing(tmp_path, content):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "claims.csv").write_bytes(content)
    path = report.write([toy("03_method", tmp_path / "03_method.ipynb")], tmp_path, "quick")
    assert "claims.csv is damaged" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[]", b'{"cells": 3}', b"{}"])
def test_a_damaged_notebook_is_left_out_and_told(tmp_path, content):
    (tmp_path / "03_method.ipynb").write_bytes(content)
    path = report.write([toy("03_method", tmp_path / "03_method.ipynb")], tmp_path, "quick")
    assert "Not executed yet, or not readable: 03_method" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[]", b'{"notebooks": 3}'])
def test_a_damaged_provenance_ends_no_report_and_is_told_to_who_asks(tmp_path, content):
    provenance.place(tmp_path).parent.mkdir()
    provenance.place(tmp_path).write_bytes(content)
    report.write([toy("03_method", tmp_path / "03_method.ipynb")], tmp_path, "quick")
    assert not provenance.there(tmp_path)
    with pytest.raises(MisuseError, match=r"provenance.json is damaged: give the command run again"):
        provenance.read(tmp_path)


def test_nothing_is_fetched_from_anywhere(page):
    for tag in page.find_all(["script", "link", "img", "iframe", "audio", "video", "source", "object", "embed"]):
        for name in ("src", "href", "data", "srcset", "poster"):
            assert tag.get(name, "data:").startswith("data:"), tag.name
    styles = " ".join(tag.get_text() for tag in page.find_all("style")) + " ".join(
        tag["style"] for tag in page.find_all(style=True)
    )
    assert not re.search(r"@import|url\(", styles)
    assert not re.search(r"fetch|import|http|XMLHttp", " ".join(tag.get_text() for tag in page.find_all("script")))


def test_ordinary_links_and_players_stay(page):
    assert page.find("a", href="https://example.org/paper")
    assert page.find("audio")["src"].startswith("data:audio/flac")
    assert page.find("img")["src"].replace("\n", "") == f"data:image/png;base64,{PIXEL}"
    assert page.get_text().count("left out: it would be fetched from the network") == 6
    assert page.find("p", string="red")["style"].startswith("color: red; ")


def test_links_inside_lead_somewhere_and_ids_are_unique(page):
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    targets = [tag["href"][1:] for tag in page.find_all("a", href=re.compile("^#"))]
    assert len(targets) >= 5
    assert set(targets) <= set(ids)


def test_a_styled_table_keeps_its_style_also_where_it_stands_twice(page):
    """Text to the left, numbers to the right, as `dnslib.display.table` says: each rule names a cell that is there."""
    tables = page.find("section", id="05_3").find_all("table")
    assert len(tables) == 2
    for table in tables:
        style = table.find_previous("style").get_text()
        sides = {}
        for names, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", style):
            sides |= dict.fromkeys(re.findall(r"#([\w-]+)", names), re.findall(r"text-align: (\w+)", rule)[-1])
        assert [sides[cell["id"]] for cell in table.find("tbody").find_all("td")] == ["left", "right"]
        assert f"#{table['id']} caption" in style
        assert not re.search(r"#\d[\w-]*[ ,{]", style)  # no name in a style begins with a digit


def test_contents_name_every_executed_notebook_in_order(page):
    top = [item.find("a").get_text() for item in page.find("nav").find("ul").find_all("li", recursive=False)]
    assert top == ["Method", "Sparsity & speed"]
    assert "Not executed yet, or not readable: 06_missing" in page.get_text()


def test_formulas_are_mathml(page):
    inline, block = page.find_all("math")
    assert (inline["display"], block["display"]) == ("inline", "block")
    assert "←" in inline.get_text()
    assert "$" not in page.find("main").get_text()


def test_a_formula_that_cannot_be_converted_is_shown_as_it_is():
    assert report.mathml(r"a < \frac{", "inline") == r"<code>a &lt; \frac{</code>"


def test_code_is_folded_and_output_is_escaped(page):
    code = page.find("details", class_="code")
    assert "secret" in code.get_text()
    assert not code.has_attr("open")
    assert "a < b & red" in page.get_text()


def test_claims_come_first_with_their_verdicts(page):
    assert page.find("section")["id"] == "claims"
    assert [tag.get_text() for tag in page.select(".reproduced")] == ["reproduced"]
    assert [tag.get_text() for tag in page.select(".not-reproduced")] == ["not reproduced"]
    assert [tag.get_text() for tag in page.select(".not-decided")] == ["not decided by this run"]
    assert "GRUs, mostly" in page.find(id="claims").get_text()


def test_a_quick_run_and_its_provenance_are_said(page):
    assert "Quick run" in page.find("header").get_text()
    assert "commit 0123456789 with local changes · Some CPU, 2 threads" in page.find("header").get_text()


def test_a_full_run_has_no_quick_banner_and_nothing_is_needed_but_notebooks(tmp_path):
    nbformat.write(new_notebook(cells=[new_markdown_cell("# One")]), tmp_path / "one.ipynb")
    text = report.write([toy("one", tmp_path / "one.ipynb")], tmp_path, "full").read_text(encoding="utf-8")
    assert "Quick run" not in text
    assert "id='claims'" not in text
