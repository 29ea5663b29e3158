"""Settings: ranges, frozen, one clear line for a mistake."""

import math

import pytest
from pydantic import ValidationError

from dnslib.errors import MisuseError
from dnslib.settings import Settings, unknown


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
