"""What the README promises and a machine can check: commands are understood, links and anchors lead somewhere."""

import re
import shlex

import numpy as np
import pytest

import dnslib
from dnslib import published
from dnslib.__main__ import parser
from dnslib.paths import PROJECT
from dnslib.study.card import PUBLISHED
from dnslib.study.notebooks import discover, select
from dnslib.study.parameters import plan

README = (PROJECT / "README.md").read_text(encoding="utf-8")
PAGES = [PROJECT / "README.md", published.WEIGHTS / "README.md", PUBLISHED / "README.md"]


def commands(text: str, first: str) -> list[list[str]]:
    """Every command of fenced blocks and code spans that begins like this, in words."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    found = (
        shlex.split(line, comments=True) for line in (" ".join(one.split()) for one in lines) if line.startswith(first)
    )
    return [words for words in dict.fromkeys(map(tuple, found)) if len(words) > 4 or words[3] in ("run", "list")]


@pytest.mark.parametrize("words", commands(README, "python -m dnslib "), ids=" ".join)
def test_a_command_of_the_readme_is_understood(words, tmp_path):
    """Parsed, its notebooks chosen and its parameters checked, as `run` does before it starts a kernel."""
    options = parser().parse_args([str(tmp_path) if word == "RECORDINGS" else word for word in words[3:]])
    if "assignments" in options:
        every = discover(PROJECT / "notebooks")
        values = plan(select(every, options.notebooks), options.profile, assignments=options.assignments)
        for name, _ in options.assignments:
            assert any(name in given for given in values.values()), f"{name} changes nothing"


@pytest.mark.parametrize("words", commands(README, "papermill "), ids=" ".join)
def test_a_notebook_that_papermill_is_told_to_run_is_there_and_has_the_parameter(words):
    (notebook,) = [one for one in discover(PROJECT / "notebooks") if one.path == PROJECT / words[1]]
    assert notebook.parameter(words[words.index("-p") + 1])


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_links_and_anchors_of_the_texts_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_the_table_of_notebooks_has_every_notebook_once_in_order():
    rows = re.findall(r"^\| `(\d\d_\w+)` \|", README, re.MULTILINE)
    assert rows == [one.name for one in discover(PROJECT / "notebooks")]


def test_the_library_is_listed_whole():
    listed = README.partition("a small library with one file per subject:")[2].partition("Every notebook but 06")[0]
    named = {name.rstrip("/") for name in re.findall(r"`(\w+/?)`", listed)}
    assert named == set(dnslib._MODULES)
    assert all((PROJECT / "dnslib" / name).exists() for name in re.findall(r"`(\w+/)`", listed))


def test_the_loop_of_the_readme_denoises():
    (block,) = (
        one for one in re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL) if "microphone" in one
    )
    heard = 0.1 * np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    played = []
    speaker = type("Speaker", (), {"write": staticmethod(played.append)})
    names = {"microphone": np.array_split(heard, 13), "speaker": speaker}
    exec(block, names)
    assert names["denoiser"].latency_samples == 480  # as the comment says
    np.testing.assert_allclose(np.concatenate(played), dnslib.enhance(dnslib.pretrained("P.500"), heard), atol=1e-4)
