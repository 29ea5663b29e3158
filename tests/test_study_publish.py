"""Publishing: no sound, no folder of the machine, weights in half precision, refusal where nothing is finished."""

import json
import re
from functools import partial
from types import SimpleNamespace

import nbformat
import pytest
import test_study_readme
import torch
from safetensors import safe_open

from dnslib import CONFIGURATIONS, Cruse, MisuseError, Settings
from dnslib.experiments import Laboratory, Run
from dnslib.model import save_weights
from dnslib.paths import PROJECT
from dnslib.study import publish as publishing
from dnslib.study.publish import (
    LEFT_OUT,
    NAMES,
    TARGET,
    cleaned,
    folders,
    publish,
    publish_weights,
    without_sound,
)

FIGURE_1 = """configuration,speedup,speedup_ci_low,speedup_ci_high,dnsmos_ovrl,dnsmos_ovrl_ci_low,dnsmos_ovrl_ci_high,\
dnsmos_sig,dnsmos_sig_ci_low,dnsmos_sig_ci_high,dnsmos_bak,dnsmos_bak_ci_low,dnsmos_bak_ci_high,delta_ovrl,\
delta_ovrl_ci_low,delta_ovrl_ci_high,delta_sig,delta_sig_ci_low,delta_sig_ci_high,delta_bak,delta_bak_ci_low,\
delta_bak_ci_high,clips,seeds
CRUSE32,1,1,1,2.6,2.5,2.7,3,2.9,3.1,4,3.9,4.1,0,0,0,0,0,0,0,0,0,9,1
P.500,2.5,2.4,2.6,2.5,2.4,2.6,3,2.9,3.1,4,3.9,4.1,0,-0.1,0.1,0,-0.1,0.1,0,-0.1,0.1,9,1
P.875,9,8,10,2.4,2.3,2.5,3,2.9,3.1,4,3.9,4.1,0,-0.1,0.1,0,-0.1,0.1,0,-0.1,0.1,9,1
"""


def executed(text: str, html: str) -> nbformat.NotebookNode:
    outputs = [
        nbformat.v4.new_output("stream", text=text),
        nbformat.v4.new_output("display_data", data={"text/html": html, "text/plain": "<HTML>"}),
    ]
    cell = nbformat.v4.new_code_cell("1 + 1", outputs=outputs, execution_count=1)
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "outputs"
    (folder / "results").mkdir(parents=True)
    settings = {"data": str(tmp_path / "pack"), "outputs": str(folder), "recordings": "", "profile": "full"}
    ran = {"07_5": {"parameters": {"exchange": str(tmp_path / "clips")}}, "06": None}
    about = {
        "settings": settings,
        "notebooks": ran,
        "system": "Linux-6.1.2-box-v3-x86_64-with-glibc2.36",
        "data": str(tmp_path / "pack"),
    }
    (folder / "results" / "provenance.json").write_text(json.dumps(about))
    (folder / "results" / "figure_1.csv").write_text(FIGURE_1)
    player = '<audio controls src="data:audio/flac;base64,ABCD"></audio>'
    nbformat.write(executed(f"written to {folder}/results", player), folder / "05_0.ipynb")
    for unfinished in ("06.failed.ipynb", ".07_1.running.ipynb"):
        nbformat.write(executed("half", "<b>of a run</b>"), folder / unfinished)
    return folder


def test_notebooks_and_results_come_out_without_sound_and_folders(outputs, tmp_path):
    target = tmp_path / "published"
    names = {path.relative_to(target).as_posix() for path in publish(outputs, target)}
    assert names == {"05_0.ipynb", "results/provenance.json", "results/figure_1.csv", "figure_1.png"}
    text = (target / "05_0.ipynb").read_text()
    assert "audio/flac" not in text
    assert "ABCD" not in text
    assert LEFT_OUT in text
    assert "written to OUTPUTS/results" in text
    about = (target / "results" / "provenance.json").read_text()
    assert str(tmp_path) not in text + about
    assert json.loads(about)["data"] == "DATA"
    assert json.loads(about)["notebooks"]["07_5"]["parameters"]["exchange"] == "EXCHANGE"
    assert "6.1.2" not in about
    assert (target / "figure_1.png").read_bytes().startswith(b"\x89PNG")


def test_links_lead_to_the_published_notebook_or_else_to_its_source(outputs, tmp_path):
    target = tmp_path / "notebooks" / "published"
    for there in ("notebooks/05_0.ipynb", "notebooks/07_2.ipynb", "notebooks/published/deployment/07_1.ipynb"):
        (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / there).write_text("{}")
    (tmp_path / "card.md").write_text("scores")
    links = "[a](05_0.ipynb) [b](07_1.ipynb) [c](07_2.ipynb) [d](http://x.org/05_0.ipynb) [e](../card.md)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(links)])
    nbformat.write(notebook, outputs / "00.ipynb")
    publish(outputs, target)
    expected = "[a](05_0.ipynb) [b](deployment/07_1.ipynb) [c](../07_2.ipynb) [d](http://x.org/05_0.ipynb)"
    expected += " [e](../../card.md)"
    assert nbformat.read(target / "00.ipynb", 4).cells[0].source == expected
    (outputs / "05_0.ipynb").unlink()
    publish(outputs, target / "held")
    expected = "[a](../05_0.ipynb) [b](../deployment/07_1.ipynb) [c](../../07_2.ipynb) [d](http://x.org/05_0.ipynb)"
    expected += " [e](../../../card.md)"
    assert nbformat.read(target / "held" / "00.ipynb", 4).cells[0].source == expected
    publish(outputs, target / "deployment")
    expected = expected.replace("(../deployment/07_1.ipynb)", "(07_1.ipynb)")
    assert nbformat.read(target / "deployment" / "00.ipynb", 4).cells[0].source == expected


def test_every_link_of_the_published_notebooks_leads_somewhere():
    notebooks = list(TARGET.rglob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        texts = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
        for name in re.findall(r"\]\(([^)\s:#]+)\)", "\n".join(texts)):
            assert (path.parent / name).exists(), f"{path.name} links to {name}"


def test_a_run_of_some_notebooks_has_no_figure_to_draw(outputs, tmp_path):
    (outputs / "results" / "figure_1.csv").unlink()
    names = {path.name for path in publish(outputs, tmp_path / "published")}
    assert names == {"05_0.ipynb", "provenance.json"}


def test_other_outputs_stay_as_they_are():
    notebook = executed("loss 0.5", "<table>")
    assert nbformat.reads(without_sound(nbformat.writes(notebook)), 4) == notebook


def test_a_folder_is_replaced_as_a_whole_name_only():
    hidden = folders({"settings": {"data": "", "outputs": "outputs/quick"}})
    text = f"{PROJECT}/outputs/quick/a {PROJECT}-2/b {PROJECT}"
    assert cleaned(text, hidden) == f"outputs/quick/a {PROJECT}-2/b ."
    written = json.dumps({"data": "/daten/jürgen/noise", "other": "/daten/jürgen"})
    assert json.loads(cleaned(written, {"/daten/jürgen": "~"})) == {"data": "~/noise", "other": "~"}
    assert cleaned("Linux 6.18.44-x (x86_64), Linux", {}) == "Linux (x86_64), Linux"


def test_a_run_of_another_checkout_names_no_folder_of_it(outputs, tmp_path):
    other = tmp_path / "other" / "study"
    notebook = executed(f"written to {other}/outputs/third/results", "<b>x</b>")
    notebook.metadata["papermill"] = {"input_path": str(other / "notebooks" / "05_1.ipynb")}
    nbformat.write(notebook, outputs / "05_1.ipynb")
    publish(outputs, tmp_path / "published")
    text = (tmp_path / "published" / "05_1.ipynb").read_text()
    assert "written to ./outputs/third/results" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("scheduler", "shown"),
    [("tcp://login3.cluster.example:8786", "SCHEDULER"), ("/srv/anna/slurm.yaml", "SCHEDULER"), ("local:2", "local:2")],
)
def test_a_scheduler_is_not_named(scheduler, shown):
    hidden = folders({"settings": {"data": "", "outputs": "outputs/quick", "scheduler": scheduler}})
    assert cleaned(f"trained on {scheduler}", hidden) == f"trained on {shown}"


def test_nothing_finished_is_refused_and_what_was_published_stays(outputs, tmp_path):
    earlier = tmp_path / "published" / "05_0.ipynb"
    earlier.parent.mkdir()
    earlier.touch()
    with pytest.raises(MisuseError, match="no finished run"):
        publish(tmp_path, tmp_path / "published")
    (outputs / "07_1.ipynb").write_text('{"cells": [')
    with pytest.raises(MisuseError, match=r"07_1\.ipynb is damaged"):
        publish(outputs, tmp_path / "published")
    assert [path.name for path in earlier.parent.iterdir()] == ["05_0.ipynb"]
    assert earlier.read_bytes() == b""


def test_what_was_published_before_goes_with_the_next_run(outputs, tmp_path):
    earlier = tmp_path / "published" / "results" / "table_0.csv"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    apart = tmp_path / "published" / "deployment" / "07_1.ipynb"  # of a run published by itself
    apart.parent.mkdir()
    apart.touch()
    publish(outputs, tmp_path / "published")
    assert not earlier.exists()
    assert apart.exists()


def test_weights_are_those_of_the_run_in_half_precision(tmp_path, monkeypatch):
    laboratory = Laboratory(Settings(outputs=str(tmp_path / "outputs")))
    monkeypatch.setattr(laboratory, "network", laboratory.untrained)
    with pytest.raises(MisuseError, match=r"P\.875 is not trained"):
        publish_weights(laboratory, ["P.875"], tmp_path / "weights")
    model = laboratory.load(laboratory.untrained("P.875"))
    with pytest.raises(MisuseError, match=r"P\.750 is not trained"):
        publish_weights(laboratory, ["P.875", "P.750"], tmp_path / "weights")
    assert not (tmp_path / "weights").exists()  # all or none
    (path,) = publish_weights(laboratory, ["P.875"], tmp_path / "weights")
    assert path.name == "P.875-20ms.safetensors"  # the name alone is that of weights that look ahead
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["steps"] == "0"
        for name, value in model.state_dict().items():
            assert torch.equal(file.get_tensor(name), value.half())


def test_published_weights_name_all_steps_from_random_weights(tmp_path, monkeypatch):
    """Ten steps of CRUSE32 and four of the pruned network."""
    laboratory = Laboratory(Settings(outputs=str(tmp_path / "outputs")))
    widths = CONFIGURATIONS["P.875"]
    start = Run(widths, steps=10)
    run = Run(widths, steps=4, start=start)
    folder = laboratory.folder(run)
    folder.mkdir(parents=True)
    save_weights(Cruse(widths).state_dict(), folder / "model.safetensors", {})
    (folder / "DONE").touch()
    monkeypatch.setattr(laboratory, "network", lambda name: run)
    (path,) = publish_weights(laboratory, ["P.875"], tmp_path / "weights")
    with safe_open(path, framework="pt") as file:
        assert (file.metadata()["steps"], file.metadata()["run"]) == ("14", run.name)


def test_weights_that_came_along_are_not_published_again(tmp_path):
    laboratory = Laboratory(Settings(outputs=str(tmp_path / "outputs"), pretrained=True, look_ahead=1))
    laboratory.corpora = SimpleNamespace(digest="")
    with pytest.raises(MisuseError, match=r"P\.875 of .* is bundled"):
        publish_weights(laboratory, ["P.875"], tmp_path / "weights")


def test_the_command_publishes_everything_or_nothing(outputs, tmp_path, monkeypatch, capsys):
    """Notebooks, weights of every name and README in one call; with one network untrained all stays."""
    target, weights, readme = tmp_path / "published", tmp_path / "weights", tmp_path / "README.md"
    monkeypatch.setattr(Laboratory, "network", lambda self, name, seed=None: self.untrained(name))
    monkeypatch.setattr(publishing, "TARGET", target)
    monkeypatch.setattr(publishing, "publish", partial(publish, target=target))
    monkeypatch.setattr(publishing, "publish_weights", partial(publish_weights, folder=weights))
    monkeypatch.setattr(publishing.readme, "update", partial(publishing.readme.update, readme=readme))

    for file in (target / "05_0.ipynb", readme):
        file.parent.mkdir(exist_ok=True)
        file.write_text("before\n<!-- results:start -->\nearlier\n<!-- results:end -->\nafter\n")
    results, settings = outputs / "results", Settings(outputs=str(outputs))
    (results / "table_2.csv").write_text(test_study_readme.TABLE_2)
    (results / "table_5.csv").write_text(test_study_readme.TABLE_5)
    (results / "claims.csv").write_text("id,verdict\nC1,reproduced\n")
    noted = settings.model_dump() | {"outputs": str(tmp_path / "where the run was made")}
    (results / "provenance.json").write_text(json.dumps({"profile": "full", "cpu": "A Processor", "settings": noted}))

    def shown() -> dict[str, bytes]:
        places = (*target.rglob("*"), *weights.glob("*"), readme)
        return {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in places if path.is_file()}

    laboratory, before = Laboratory(settings), shown()
    for name in NAMES[:-1]:
        laboratory.train(laboratory.untrained(name))
    with pytest.raises(MisuseError, match=re.escape(f"{NAMES[-1]} is not trained")):
        publishing.main([str(outputs)])
    assert shown() == before

    laboratory.train(laboratory.untrained(NAMES[-1]))
    publishing.main([str(outputs)])
    after = shown()
    files = {f"weights/{name}-20ms.safetensors" for name in NAMES} | {
        "published/results/claims.csv",
        "published/figure_1.png",
    }
    assert files <= set(after)
    assert LEFT_OUT in after["published/05_0.ipynb"].decode()
    text = after["README.md"].decode()
    assert "| P.500 | 32 32 | 2 356" in text
    assert "earlier" not in text
    assert (text[:7], text[-6:]) == ("before\n", "after\n")
    said = capsys.readouterr().out
    assert f"{len(after) - 1} files" in said  # all but the README
    assert "run 07_5" in said


def test_a_run_of_some_notebooks_is_published_beside_the_study(outputs, tmp_path, monkeypatch):
    target, shown = tmp_path / "published", []
    monkeypatch.setattr(publishing, "TARGET", target)
    monkeypatch.setattr(publishing.card, "update", shown.append)
    (target / "results").mkdir(parents=True)
    earlier = target / "results" / "claims.csv"
    earlier.touch()
    publishing.main([str(outputs), "held"])
    assert (target / "held" / "05_0.ipynb").is_file()
    assert earlier.exists()
    assert shown == [target]
    for name in ("results", "../held", "Held", ""):
        with pytest.raises(MisuseError, match="named by small letters"):
            publishing.main([str(outputs), name])
