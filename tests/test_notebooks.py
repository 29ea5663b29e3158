"""The notebooks of the study: none escapes, each states what it does, each runs through papermill when made small."""

import ast
import re
from collections import defaultdict
from pathlib import Path
from typing import Literal, get_origin, get_type_hints

import nbformat
import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell

from dnslib import plots
from dnslib.paths import PROJECT
from dnslib.settings import Settings
from dnslib.study.notebooks import discover, in_order
from dnslib.study.parameters import check, plan
from dnslib.study.runner import execute, judge

FOLDER = PROJECT / "notebooks"
RESULTS = {f"results/table_{number}.csv" for number in range(1, 9)} | {"results/figure_1.csv", "results/claims.csv"}

# Small values of shared parameters, for every notebook that has them, and of a notebook's own.
SMALL = {
    "speech_minutes": 2.0,
    "noise_minutes": 2.0,
    "baseline_steps": 2,
    "fine_tuning_steps": 1,
    "batch_size": 2,
    "crop_seconds": 1.0,
    "test_clips": 2,
    "latency_rounds": 2,
    "frames_per_round": 5,
}
OWN: dict[str, dict] = {
    "00_overview": {},
    "03_method": {},
    "04_1_profile": {"profile_frames": 30, "profile_repeats": 2},
    "04_2_configurations": {},
    "04_3_structured_pruning": {"configurations": ["P.500", "P.875"], "heard_configurations": ["P.875"]},
    "05_0_speed_and_quality": {"configurations": ["P.500", "P.5625", "P.875"], "recordings": "calls", "seed_count": 2},
    "05_1_ablation": {"direct_configurations": ["P.875"], "ablation_configuration": "P.875", "seed_count": 2},
    "05_2_fine_tuning": {"configurations": ["P.500", "P.875"], "fractions": [0.5]},
    "05_3_sparsity": {},
    "06_conclusions": {},
    "07_1_deployment": {
        "deployed_configurations": ["P.875"],
        "quality_clips": 2,
        "ladder_frames": 5,
        "paced_rounds": 2,
        "overhead_frames": 20,
        "soak_minutes": 0.02,
    },
    "07_4_training": {"raced_configuration": "P.875", "race_seeds": 2, "race_steps": 2, "raced_crop_seconds": 1.0},
    "07_5_other_recordings": {
        "judged_weights": ["P.750", "P.875", "P.875-20ms"],
        "every_recording": True,
        "data": "data",
        "recordings": "calls",
        "exchange": "exchange",
    },
    "07_3_sparsity_that_pays": {
        "product_rounds": 2,
        "product_frames": 1,
        "cold_frames": 1,
        "product_zeros": [0.5, 0.9],
        "quality_zeros": [0.5],
        "quality_clips": 2,
    },
    "07_2_search": {"trials": 3, "search_steps": 1, "search_rounds": 2, "validation_crops": 2, "scored_designs": 1},
}

NOTEBOOKS = in_order(discover(FOLDER)) if list(FOLDER.glob("*.ipynb")) else []
each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.name)


def test_no_notebook_escapes():
    others = {".ipynb_checkpoints", "published"}  # the latter are outputs of a run
    found = (path.stem for path in FOLDER.rglob("*.ipynb") if not others & set(path.relative_to(FOLDER).parts))
    assert sorted(found) == sorted(OWN)


def test_every_result_of_the_paper_is_written_by_one_notebook():
    written = [name for notebook in NOTEBOOKS for name in notebook.writes]
    assert set(written) >= RESULTS
    assert len(written) == len(set(written))


def test_the_full_profile_has_only_names_and_values_that_notebooks_accept():
    values = plan(NOTEBOOKS, "full")
    assert all(given.get("profile") == "full" for given in values.values())
    names = yaml.safe_load((FOLDER / "parameters" / "full.yaml").read_text(encoding="utf-8"))
    assert [name for name in names if not any(notebook.parameter(name) for notebook in NOTEBOOKS)] == []


def test_no_function_is_defined_in_two_notebooks():
    """What a second notebook wants belongs into the library, with a test."""
    places = defaultdict(set)
    for notebook in NOTEBOOKS:
        for source in notebook.code:
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    places[node.name].add(notebook.name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@each
def test_every_table_and_figure_knows_the_profile_that_marks_a_quick_run(notebook):
    """As ``profile=settings.profile`` or, of a table, as its fourth value."""
    drawn = {name: getattr(draw, "__wrapped__", None) for name, draw in vars(plots).items()}
    figures = {
        f"dnslib.plots.{name}" for name, draw in drawn.items() if draw and get_type_hints(draw).get("return") is Figure
    }
    assert figures
    for source in notebook.code:
        for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            shows = name in {"dnslib.display.table", *figures}
            given = [ast.unparse(value) for value in call.args[3:]]
            given += [ast.unparse(word.value) for word in call.keywords if word.arg == "profile"]
            assert not shows or any(value in ("profile", "settings.profile") for value in given), ast.unparse(call)


@each
def test_a_notebook_says_what_it_is(notebook):
    content = nbformat.read(notebook.path, as_version=4)
    nbformat.validate(content)
    assert content.cells[0].cell_type == "markdown"
    assert notebook.title
    assert notebook.reproduces
    # papermill asks for the language, which stripping removes elsewhere
    assert (content.metadata.kernelspec.name, content.metadata.kernelspec.language) == ("python3", "python")


@each
def test_the_parameters_cell_comes_first_and_agrees_with_the_settings(notebook):
    content = nbformat.read(notebook.path, as_version=4)
    tagged = [index for index, cell in enumerate(content.cells) if "parameters" in cell.metadata.get("tags", [])]
    first = next(index for index, cell in enumerate(content.cells) if cell.cell_type == "code")
    assert tagged == [first]
    assert {"outputs", "profile"} <= {parameter.name for parameter in notebook.parameters}
    check(notebook, {parameter.name: parameter.default for parameter in notebook.parameters})
    for parameter in notebook.parameters:
        assert parameter.help, f"{parameter.name} has no help"
        if shared := Settings.model_fields.get(parameter.name):
            assert parameter.default == shared.default
            kind = str if get_origin(shared.annotation) is Literal else shared.annotation
            assert parameter.type is kind


@each
def test_what_times_something_says_so(notebook):
    """So that its times are taken anew on another machine."""
    clocks = ("lab.latency(", "measure_latency(", "layer_shares(", ".race(", "compare(race", "limits.measure(")
    assert notebook.measures == any(clock in source for source in notebook.code for clock in (*clocks, "remeasured("))


@each
def test_a_figure_drawn_in_a_notebook_names_the_profile(notebook):
    """As those of `dnslib.plots` do: nobody shall take a quick run's figure for a full one's."""
    drawn = [source for source in notebook.code if "plt.show()" in source]
    assert all("settings.profile" in source for source in drawn)


@each
def test_the_settings_are_read_from_the_parameters_cell(notebook):
    """All of them, by one call; what a notebook changes is one of its own parameters."""
    code = [node for source in notebook.code for node in ast.walk(ast.parse(source))]
    named = {ast.unparse(node.func): node for node in code if isinstance(node, ast.Call)}
    call = named["dnslib.read_settings"]
    assert "dnslib.Settings" not in named
    assert [ast.unparse(value) for value in call.args] == ["globals()"]
    assert all(notebook.parameter(ast.unparse(word.value)) for word in call.keywords)


@pytest.fixture(scope="session")
def outputs(tmp_path_factory):
    """One folder for all notebooks, so that a run which two of them need is trained once."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """What notebooks may be given: recordings of five speakers and five noises, two calls, another denoiser's clips."""
    root, rng = tmp_path_factory.mktemp("given"), np.random.default_rng(0)
    names = [f"data/speech/corpus/{speaker}/1" for speaker in "abcde"]
    names += [f"data/noise/corpus/{kind}/1" for kind in "fghij"]
    names += ["calls/one", "calls/two", "exchange/other/000", "exchange/other/001"]
    for name in names:
        path = root / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = 10 if name.startswith("calls") else 4  # one window of DNSMOS; a shorter voice would be a word
        soundfile.write(path, 0.1 * rng.standard_normal(seconds * 16_000), 16_000)
    return root


def small_values(notebook, outputs, folders) -> dict:
    values = {name: value for name, value in SMALL.items() if notebook.parameter(name)}
    values |= OWN.get(notebook.name, {}) | {"outputs": str(outputs)}
    return values | {name: str(folders / values[name]) for name in ("data", "recordings", "exchange") if name in values}


def with_answers(notebook, folder) -> Path:
    """A copy of a notebook whose last cells are the folded answers to its exercises."""
    content = nbformat.read(notebook.path, as_version=4)
    texts = "\n".join(cell.source for cell in content.cells if cell.cell_type == "markdown")
    answers = re.findall(r"<details>.*?</details>", texts, re.DOTALL)
    blocks = [block for answer in answers for block in re.findall(r"```python\n(.*?)```", answer, re.DOTALL)]
    content.cells += [new_code_cell(block) for block in blocks]
    path = folder / notebook.path.name
    nbformat.write(content, path)
    return path


@each
@pytest.mark.slow
def test_a_small_run_through_papermill(notebook, outputs, folders, tmp_path, monkeypatch):
    """Plain papermill, as a person would call it, then the answers; in order, as some read what others wrote."""
    import papermill

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests run beside it
    values = small_values(notebook, outputs, folders)
    check(notebook, values)
    target = outputs / f"{notebook.name}.ipynb"
    executed = papermill.execute_notebook(
        with_answers(notebook, tmp_path),
        target,
        parameters=values,
        progress_bar=False,
        cwd=str(outputs),  # neither the project's folder nor the notebook's
        shutdown_kernel="immediate",  # saves two seconds each
    )
    assert judge(executed) == ""
    for name in notebook.writes:
        table = pd.read_csv(outputs / name)
        assert len(table) > 0, name
        assert [column for column in table.columns if not column.isidentifier()] == [], name
        assert "rounds" in table or "latency_ms" not in table, f"{name}: no verdict could tell that rounds are too few"
        for low in [column for column in table.columns if column.endswith("ci_low")]:
            high = low.removesuffix("low") + "high"
            known = table[[low, high]].dropna()
            assert (known[low] <= known[high]).all(), f"{name}: {low}"


@pytest.mark.slow
def test_the_runner_and_plain_papermill_give_the_same(outputs, folders, tmp_path, monkeypatch):
    """Byte for byte, from two working folders; 04_3 trains, prunes and compares, and times nothing."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = next(one for one in NOTEBOOKS if one.name == "04_3_structured_pruning")
    table = outputs / "results" / "pruning.csv"
    if not table.exists():
        test_a_small_run_through_papermill(notebook, outputs, folders, tmp_path, monkeypatch)
    before = table.read_bytes()
    table.unlink()
    execute(notebook, small_values(notebook, outputs, folders), {}, outputs)
    assert table.read_bytes() == before


def test_only_the_overview_and_the_conclusions_read_what_other_notebooks_wrote():
    """README: every notebook but 06 also runs alone. The small runs share one folder, where nobody would notice."""
    reading = re.compile(r"\.result\(|read_csv\(")
    assert {one.name for one in NOTEBOOKS if one.reads} == {"00_overview", "06_conclusions"}
    assert {one.name for one in NOTEBOOKS if any(map(reading.search, one.code))} == {"00_overview", "06_conclusions"}
