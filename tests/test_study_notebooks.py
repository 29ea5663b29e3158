"""Reading notebooks without a kernel: parameters cell, selection, order."""

import pytest

from dnslib.errors import MisuseError
from dnslib.study.notebooks import Notebook, discover, in_order, parse_parameters, read, select


def toy(folder, name, reads=(), writes=()):
    return Notebook(name, folder / f"{name}.ipynb", name, (), (), "", tuple(reads), tuple(writes))


def test_a_parameters_cell_gives_names_types_defaults_and_help():
    lines = "seed: int = 0  # first seed", "names: list[str] = [", '  "a",', '  "b",', "]  # two", "rate: float = -1.5"
    source = "\n".join((*lines, 'word: str = "#"'))
    parsed = [(one.name, one.type, one.default, one.help) for one in parse_parameters(source, "toy")]
    assert parsed == [
        ("seed", int, 0, "first seed"),
        ("names", list[str], ["a", "b"], "two"),
        ("rate", float, -1.5, ""),
        ("word", str, "#", ""),
    ]


@pytest.mark.parametrize(
    "line", ["seed = 0", "seed: int = 1 + 1", "import os", "seed: tuple = (1,)", "seed: int | None = 1", "seed: int"]
)
def test_another_line_in_the_parameters_cell_is_named(line):
    with pytest.raises(MisuseError, match="line 2 of the parameters cell of toy"):
        parse_parameters(f"# comment\n{line}", "toy")


def test_a_notebook_says_what_it_does(tmp_path, make_notebook):
    path = make_notebook(
        tmp_path, "05_x", "seed: int = 0", "print(seed)", heading="Sparsity", reproduces="Table 8", writes=["t.csv"]
    )
    notebook = read(path)
    assert (notebook.name, notebook.title, notebook.reproduces) == ("05_x", "Sparsity", "Table 8")
    assert notebook.writes == ("t.csv",)
    assert notebook.code == ("seed: int = 0", "print(seed)")


@pytest.mark.parametrize("content", ["", "{}", '{"cells": [1]}', "[]", '{"cells": null}'])
def test_a_file_that_is_no_notebook_is_named(tmp_path, content):
    (tmp_path / "broken.ipynb").write_text(content)
    with pytest.raises(MisuseError, match=r"broken\.ipynb is not a notebook"):
        discover(tmp_path)


def test_an_empty_folder_is_misuse(tmp_path):
    with pytest.raises(MisuseError, match="no notebook in"):
        discover(tmp_path)


def test_selection_by_name_path_and_beginning(tmp_path):
    notebooks = [toy(tmp_path, name) for name in ("04_1_profile", "04_2_rule", "05_3_sparsity")]
    names = [one.name for one in select(notebooks, ["notebooks/05_3_sparsity.ipynb", "04_1"])]
    assert names == ["04_1_profile", "05_3_sparsity"]
    assert select(notebooks, []) == notebooks


def test_a_section_is_all_its_notebooks(tmp_path):
    notebooks = [toy(tmp_path, name) for name in ("04_1_profile", "04_2_rule", "05_3_sparsity", "05_3_sparsity_more")]
    assert [one.name for one in select(notebooks, ["04"])] == ["04_1_profile", "04_2_rule"]
    assert [one.name for one in select(notebooks, ["05_3_sparsity"])] == ["05_3_sparsity"]  # a whole name is that one


@pytest.mark.parametrize(("given", "suggestion"), [("05_3_sparsty", "05_3_sparsity"), ("0", "04_")])
def test_an_unknown_or_ambiguous_notebook_gets_a_suggestion(tmp_path, given, suggestion):
    notebooks = [toy(tmp_path, name) for name in ("04_1_profile", "04_2_rule", "05_3_sparsity")]
    with pytest.raises(MisuseError, match=f"unknown notebook {given}: .*{suggestion}"):
        select(notebooks, [given])


def test_writers_come_before_readers_and_names_decide_the_rest(tmp_path):
    notebooks = [
        toy(tmp_path, "00_overview", reads=["results/*.csv"]),
        toy(tmp_path, "04_a", writes=["results/table_1.csv"]),
        toy(tmp_path, "05_b", reads=["results/table_9.csv"], writes=["results/table_2.csv"]),
        toy(tmp_path, "06_c", reads=["results/table_*.csv"], writes=["results/claims.csv"]),
    ]
    assert [one.name for one in in_order(notebooks)] == ["04_a", "05_b", "06_c", "00_overview"]
    assert [one.name for one in in_order(notebooks[::-1])] == ["04_a", "05_b", "06_c", "00_overview"]


def test_a_circle_is_named(tmp_path):
    notebooks = [toy(tmp_path, "a", ["x.csv"], ["y.csv"]), toy(tmp_path, "b", ["y.csv"], ["x.csv"])]
    with pytest.raises(MisuseError, match="circle: "):
        in_order(notebooks)
