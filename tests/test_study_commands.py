"""The command that makes a published run again."""

import json
import shlex

import pytest

from dnslib.__main__ import parser
from dnslib.errors import MisuseError
from dnslib.paths import PROJECT
from dnslib.study import card, provenance
from dnslib.study.commands import PLACEHOLDERS, command
from dnslib.study.notebooks import discover, select
from dnslib.study.parameters import OWN_OPTION, plan

PARAMETERS = 'steps: int = 5\nseed: int = 0\nnames: list[str] = ["a"]\nexchange: str = ""\nprofile: str = "quick"'


@pytest.fixture
def published(tmp_path, make_notebook):
    """A run with a profile whose steps are 50 today: what the notebook was given, and an option that is gone."""

    def make(profile="full", noted=None, **given):
        sources, folder = tmp_path / "notebooks", tmp_path / "published"
        make_notebook(sources, "04_2_toy", PARAMETERS)
        (sources / "parameters").mkdir(exist_ok=True)
        (sources / "parameters" / "full.yaml").write_text("steps: 50\n")
        make_notebook(folder, "04_2_toy", PARAMETERS + "\ngone: int = 1")
        (folder / "results").mkdir(exist_ok=True)
        notebooks = {"04_2_toy": {"parameters": given | {"profile": profile}}, "07_1_other": None}
        facts = {"profile": profile, "settings": {"profile": profile, "data": "DATA"}, "notebooks": notebooks}
        facts |= {} if noted is None else {"profile_values": noted}
        (folder / "results" / "provenance.json").write_text(json.dumps(facts))
        return command(folder, sources)

    return make


def test_the_values_of_the_profile_are_left_out(published):
    assert published(noted={"steps": 50}, steps=50) == "python -m dnslib run 04_2 --profile full --data DIR"
    assert published("quick") == "python -m dnslib run 04_2 --data DIR"


def test_a_value_is_named_where_the_profile_of_its_time_had_another_or_is_not_known(published):
    for noted in (None, {"steps": 40}):
        assert published(noted=noted, steps=50).endswith("--data DIR -p steps 50")


def test_a_default_is_named_where_the_profile_has_another_value(published):
    assert published().endswith("--data DIR -p steps 5")


def test_values_are_written_for_a_shell_and_folders_are_not_named(published):
    said = published(noted={"steps": 50}, steps=50, seed=2, names=["b", "c"], exchange="/somewhere", gone=3)
    assert said.endswith("--data DIR -p seed 2 -p names '[b, c]' -p exchange CLIPS")


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(MisuseError, match="no notebook"):
        command(tmp_path)


@pytest.mark.parametrize("folder", card.folders(card.PUBLISHED), ids=lambda folder: folder.name)
def test_the_command_gives_the_values_that_the_published_notebooks_ran_with(folder):
    options = parser().parse_args(shlex.split(command(folder))[3:])
    chosen = select(discover(PROJECT / "notebooks"), options.notebooks)
    planned = plan(chosen, options.profile, assignments=options.assignments)
    ran = provenance.read(folder)["notebooks"]
    executed = {one.name: one for one in discover(folder)}
    assert executed.keys() == {one.name for one in chosen}
    for today in chosen:
        for parameter in executed[today.name].parameters:
            name = parameter.name
            if name in OWN_OPTION or name in PLACEHOLDERS or not today.parameter(name):
                continue
            then = ran[today.name]["parameters"].get(name, parameter.default)
            assert planned[today.name].get(name, today.parameter(name).default) == then, (today.name, name)
