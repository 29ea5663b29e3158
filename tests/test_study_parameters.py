"""Values of parameters, checked before a kernel starts."""

from typing import get_args

import pytest

from dnslib.errors import MisuseError
from dnslib.export import FORMS
from dnslib.paths import PROJECT
from dnslib.settings import Settings
from dnslib.study import ranges
from dnslib.study.notebooks import discover
from dnslib.study.parameters import check, data_folder, plan
from dnslib.study.ranges import RANGES

CELL = """data: str = ""
outputs: str = "outputs/quick"
profile: str = "quick"
seed: int = 0
learning_rate: float = 1e-3
"""
NAMES = """configurations: list[str] = ["P.500"]
own_configuration: str = "P.875"
recordings: str = ""  # a folder
exchange: str = ""
"""


@pytest.fixture
def notebooks(tmp_path, make_notebook):
    make_notebook(tmp_path, "a", CELL)
    make_notebook(tmp_path, "b", CELL + "ratios: list = [0.5]\nplay: bool = True\n" + NAMES)
    (tmp_path / "parameters").mkdir()
    (tmp_path / "parameters" / "full.yaml").write_text("learning_rate: 0.002\nratios: [0.25, 0.5]\n")
    return discover(tmp_path)


def test_a_quick_run_gives_nothing_that_is_the_default(notebooks):
    assert plan(notebooks) == {"a": {}, "b": {}}


def test_a_full_run_takes_its_values_and_folder_and_the_command_line_wins(notebooks):
    values = plan(notebooks, "full", assignments=[("learning_rate", "5e-4")])
    shared = {"profile": "full", "outputs": "outputs/full", "learning_rate": 5e-4}
    assert values == {"a": shared, "b": shared | {"ratios": [0.25, 0.5]}}


def test_a_value_goes_to_the_notebooks_that_have_the_parameter(notebooks):
    values = plan(notebooks, assignments=[("learning_rate", "1")])["a"]
    assert isinstance(values["learning_rate"], float)
    values = plan(notebooks, assignments=[("ratios", "[1e-1, 0.5]"), ("seed", "3"), ("play", "false")])
    assert values == {"a": {"seed": 3}, "b": {"seed": 3, "ratios": [0.1, 0.5], "play": False}}


def test_outputs_inside_the_project_are_relative_so_that_it_can_be_moved(notebooks, tmp_path):
    assert plan(notebooks, outputs=PROJECT / "outputs" / "real")["a"] == {"outputs": "outputs/real"}
    assert plan(notebooks, outputs=tmp_path / "out")["a"] == {"outputs": str(tmp_path / "out")}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sed", "1", "unknown parameter sed: did you mean seed"),
        ("seed", "1.5", "seed is 1.5, but must be int, at least 0"),
        ("seed", "-1", "seed is -1, but must be int, at least 0"),
        ("seed", "true", "seed is True, but must be int"),
        ("seed", "", "seed is None, but must be int"),
        ("seed", "[1", "'\\[1' of parameter seed is not YAML"),
        ("seed", "2020-13-45", "'2020-13-45' of parameter seed is not YAML"),
        ("learning_rate", "fast", "learning_rate is 'fast', but must be float"),
        ("ratios", "0.5", "ratios is 0.5, but must be list"),
        ("play", "1", "play is 1, but must be bool"),
        ("configurations", "[P.5]", "unknown configuration P.5: did you mean P.500"),
        ("configurations", "[P.500, 3]", "configurations is 3, but must be list of str"),
        ("own_configuration", "P.87", "unknown configuration P.87: did you mean P.875"),
        ("recordings", "nowhere", "folder of recordings .*/nowhere does not exist"),
        ("profile", "full", "give profile by --profile"),
        ("data", "x", "give data by --data"),
    ],
)
def test_a_wrong_value_is_one_sentence(notebooks, name, value, words):
    with pytest.raises(MisuseError, match=words) as caught:
        plan(notebooks, assignments=[(name, value)])
    assert "\n" not in str(caught.value)


def test_the_exchange_folder_is_the_callers_too_and_need_not_be_there(notebooks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan(notebooks, assignments=[("exchange", "others")])["b"] == {"exchange": str(tmp_path / "others")}
    inside = PROJECT / "outputs" / "others"
    assert plan(notebooks, assignments=[("exchange", str(inside))])["b"] == {"exchange": "outputs/others"}
    assert plan(notebooks, assignments=[("exchange", "")])["b"] == {}


def test_recordings_are_absolute_for_the_caller(notebooks, tmp_path, monkeypatch):
    (tmp_path / "calls").mkdir()
    monkeypatch.chdir(tmp_path)
    assert plan(notebooks, assignments=[("recordings", "calls")])["b"] == {"recordings": str(tmp_path / "calls")}


def test_the_data_folder_is_absolute_for_the_caller(tmp_path, monkeypatch):
    for kind in ("speech", "noise"):
        (tmp_path / "data" / kind / "corpus").mkdir(parents=True)
        (tmp_path / "data" / kind / "corpus" / "x.flac").touch()
    monkeypatch.chdir(tmp_path)
    assert data_folder("data") == str(tmp_path / "data")
    assert data_folder("") == ""


def test_a_data_folder_that_cannot_serve_is_one_sentence(tmp_path):
    with pytest.raises(MisuseError, match="missing does not exist"):
        data_folder(str(tmp_path / "missing"))
    (tmp_path / "file").touch()
    with pytest.raises(MisuseError, match="file is a file"):
        data_folder(str(tmp_path / "file"))
    with pytest.raises(MisuseError, match="no folder speech/"):
        data_folder(str(tmp_path))
    for kind in ("speech", "noise"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "notes.txt").touch()
    with pytest.raises(MisuseError, match="speech holds no recording"):
        data_folder(str(tmp_path))


@pytest.mark.parametrize(
    ("line", "value", "words"),
    [
        (
            "fractions: list[float] = [0.5]",
            "[0.5, 1.5]",
            "1.5, but must be list of float, each at least 0 and below 1",
        ),
        ("profile_repeats: int = 10", "0", "0, but must be int, at least 2"),
        ('form: str = "plain"', "foo", "'foo', but must be str, one of plain, exact, int8"),
        ('configurations: list[str] = ["P.500"]', "[]", "[], but must be list of str, not empty"),
        ('scored_forms: list[str] = ["int8"]', "[int8, int9]", "'int9', but must be list of str, each one of plain"),
        (
            "seed: int = 0",
            "18446744073709551616",
            "18446744073709551616, but must be int, at least 0 and below 4294967296",
        ),
    ],
)
def test_parameters_of_single_notebooks_have_ranges(tmp_path, make_notebook, line, value, words):
    make_notebook(tmp_path, "a", line)
    name = line.partition(":")[0]
    with pytest.raises(MisuseError) as error:
        plan(discover(tmp_path), assignments=[(name, value)])
    assert str(error.value).startswith(f"parameter {name} is {words}")


def test_every_number_of_a_notebook_has_a_range_that_takes_its_default_and_its_full_value():
    for notebook in discover(PROJECT / "notebooks"):
        for parameter in notebook.parameters:
            numbers = parameter.type in (int, float, list[int], list[float])
            assert not numbers or parameter.name in Settings.model_fields or parameter.name in RANGES, parameter.name
        check(notebook, {parameter.name: parameter.default for parameter in notebook.parameters})
    plan(discover(PROJECT / "notebooks"), "full")


def test_the_forms_are_those_of_the_export():
    assert get_args(ranges.Form) == tuple(FORMS)
