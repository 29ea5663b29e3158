"""Settings: ranges, frozen, one clear line for a mistake."""

import math

import pytest
from pydantic import ValidationError

from dnslib.errors import MisuseError, unknown
from dnslib.settings import Settings, check_parameters, read_settings


def test_seeds_are_counted_from_the_first():
    assert Settings(seed=5, seed_count=3).seeds == (5, 6, 7)


def test_a_value_cannot_be_changed_later():
    with pytest.raises(ValidationError):
        Settings().seed = 1


def test_an_integer_is_a_float_too():
    assert Settings(speech_minutes=3).speech_minutes == 3.0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sed": 1}, ["sed", "did you mean seed?"]),
        ({"zzzzzz": 1}, ["zzzzzz", "known are", "learning_rate"]),
        ({"seed": -1}, ["seed", "-1", "at least 0"]),
        ({"seed": "1"}, ["seed", "'1'", "int"]),
        ({"seed": True}, ["seed", "True", "int"]),
        ({"seed": 1.5}, ["seed", "1.5", "int"]),
        ({"test_clips": 1}, ["test_clips", "at least 2"]),
        ({"clip_seconds": 9.0}, ["clip_seconds", "at least 9.01"]),
        ({"learning_rate": 0.0}, ["learning_rate", "above 0"]),
        ({"learning_rate": math.nan}, ["learning_rate", "nan"]),
        ({"speech_minutes": math.inf}, ["speech_minutes", "inf"]),
        ({"profile": "slow"}, ["profile", "'slow'", "quick, full"]),
        ({"outputs": ""}, ["outputs", "not empty"]),
        ({"scheduler": 2}, ["scheduler", "2", "str"]),
        ({"seed": -1, "batch_size": 0}, ["seed", "1 more like this"]),
    ],
)
def test_a_mistake_gives_one_line_that_names_field_value_and_range(given, words):
    with pytest.raises(MisuseError) as caught:
        Settings(**given)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_every_field_is_described_once_with_a_default_that_is_allowed():
    rows = Settings.describe()
    assert [row["name"] for row in rows] == list(Settings.model_fields)
    assert all(row["help"] for row in rows)
    assert Settings(**{row["name"]: row["default"] for row in rows}) == Settings()


def test_a_notebook_shows_only_what_was_given():
    shown = Settings(seed=7)._repr_html_()
    assert "seed" in shown
    assert ">7<" in shown
    assert "batch_size" not in shown


def test_unknown_suggests_the_nearest_name_or_lists_all():
    assert unknown("notebook", "05_sparsity", ["05_3_sparsity", "06"]).endswith("did you mean 05_3_sparsity?")
    assert unknown("notebook", "qqq", ["aaa", "bbb"]).endswith("known are aaa, bbb")


CELL = """play: bool = True
ratios: list[float] = [0.5]
names: list[str] = ["P.500"]
steps: int = 3
rate: float = 0.5
folder: str = ""
"""


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("play", "false", False),
        ("play", False, False),
        ("ratios", "[0.1, 1, 1e-3]", [0.1, 1.0, 1e-3]),
        ("names", "[P.500, P.750]", ["P.500", "P.750"]),
        ("steps", "7", 7),
        ("rate", "1e-3", 1e-3),
        ("rate", 2, 2.0),
        ("folder", "false", "false"),  # text stays text
    ],
)
def test_what_plain_papermill_gives_as_text_gets_its_type(name, given, value):
    cell = {}
    exec(CELL, cell)  # as a notebook's kernel does
    cell[name] = given
    check_parameters(cell)
    assert cell[name] == value
    assert type(cell[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("play", "maybe", r"parameter play is 'maybe', but must be bool"),
        ("play", 1, r"parameter play is 1, but must be bool"),
        ("ratios", "0.5", r"parameter ratios is 0\.5, but must be list of float"),
        ("names", [3], r"parameter names is \[3\], but must be list of str"),
        ("steps", "1.5", r"parameter steps is 1\.5, but must be int"),
        ("steps", "[1", r"the value '\[1' of parameter steps is not YAML"),
        ("folder", 3, r"parameter folder is 3, but must be str"),
    ],
)
def test_a_value_of_another_type_is_one_line(name, given, words):
    cell = {}
    exec(CELL, cell)
    cell[name] = given
    with pytest.raises(MisuseError, match=f"^{words}$"):
        check_parameters(cell)


def test_settings_are_read_from_a_parameters_cell():
    """Those that it shares with others, in its types; not the notebook's own, nor what is set outside the cell."""
    cell = {}
    exec("seed: int = 3\ntest_clips: int = 4\nown: int = 5", cell)
    cell |= {"test_clips": "7", "batch_size": 2}
    settings = read_settings(cell)
    assert settings.model_fields_set == {"seed", "test_clips"}
    assert (settings.seed, settings.test_clips) == (3, 7)
    assert read_settings(cell, seed=9).seed == 9
    cell["test_clips"] = 1
    with pytest.raises(MisuseError, match="test_clips is 1, but must be int, at least 2"):
        read_settings(cell)


def test_other_variables_of_a_reader_are_left_alone():
    cell = {}
    exec("from pathlib import Path\nsteps: int = 3\nfolder: Path = Path()\nlater: int\ntable: 'DataFrame' = []", cell)
    before = dict(cell)
    check_parameters(cell)
    assert cell == before
