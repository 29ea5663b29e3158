"""Scores of the published weights: texts say what the files say, and the files are of the weights that are there."""

import json

import pandas as pd
import pytest

from dnslib import MisuseError, published
from dnslib.paths import PROJECT
from dnslib.study import card, readme
from dnslib.study.card import (
    PUBLISHED,
    by_seed,
    deployment_table,
    files_table,
    int8_line,
    look_ahead_table,
    runs_table,
    scores_table,
    self_check_line,
    weights_table,
)

WEIGHTS = """configuration,parameters,delay_ms,steps,digest
CRUSE32,8581153,30.0,15500,0a
P.875-20ms,167841,20.0,8700,0b
"""
DIFFERENCE = "delta_ovrl,delta_ovrl_ci_low,delta_ovrl_ci_high,delta_si_sdr_db,delta_si_sdr_db_ci_low,\
delta_si_sdr_db_ci_high"
SCORES = f"""configuration,dnsmos_sig,dnsmos_bak,dnsmos_ovrl,si_sdr_db,{DIFFERENCE}
noisy,2.5,2.0,1.875,-4.0,0,0,0,0,0,0
CRUSE32,3.125,3.75,2.75,9.5,0.875,0.8,0.95,13.5,13,14
P.875-20ms,3.0,3.5,2.625,8.0,0.75,0.7,0.8,12,11,13
RNNoise,3.25,3.75,2.875,7.0,1.0,0.9,1.1,11,10,12
clean,3.5,4.0,3.25,,1.375,1.3,1.4,,,
"""
AGAINST = f"""configuration,{DIFFERENCE}
noisy,-0.875,-0.95,-0.8,-13.5,-14,-13
P.875-20ms,-0.125,-0.2,-0.05,-1.5,-2,-1
RNNoise,0.125,-0.05,0.3,-2.5,-3,-2
clean,0.5,0.4,0.6,,,
"""
AHEAD = """configuration,delta_sig,delta_sig_ci_low,delta_sig_ci_high,delta_bak,delta_bak_ci_low,delta_bak_ci_high,\
delta_ovrl,delta_ovrl_ci_low,delta_ovrl_ci_high
P.875,0.1,0.05,0.15,0.2,0.1,0.3,0.125,0.1,0.15
"""
RESULTS = {
    "pretrained_weights": WEIGHTS,
    "pretrained": SCORES,
    "pretrained_differences": AGAINST,
    "pretrained_look_ahead": AHEAD,
}


def write(folder, results):
    (folder / "results").mkdir(parents=True)
    for name, text in results.items():
        (folder / "results" / f"{name}.csv").write_text(text)
    return folder


def cells(table, name):
    """The cells of the row that begins with a name."""
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    return next(row for row in rows if row[0] == name)


def test_files_are_named_with_what_they_hold(tmp_path):
    sizes = "configuration,macs_per_frame\nCRUSE32,15501312\nP.875,1126224\n"
    table = files_table(write(tmp_path / "held", RESULTS), write(tmp_path / "study", {"table_2": sizes}))
    assert cells(table, "CRUSE32") == ["CRUSE32", "8 581 153", "15.50", "30", "15 500"]
    assert cells(table, "P.875-20ms") == ["P.875-20ms", "167 841", "1.13", "20", "8 700"]


def test_scores_stand_beside_their_paired_differences(tmp_path):
    table = scores_table(write(tmp_path / "held", RESULTS))
    widths = {row.count("|") for row in table.splitlines()}
    assert len(widths) == 1
    start = ["CRUSE32", "30", "3.12", "3.75", "2.75"]
    assert cells(table, "CRUSE32") == [*start, "+0.88 [+0.80, +0.95]", "–", "9.5", "–"]
    start = ["P.875-20ms", "20", "3.00", "3.50", "2.62", "+0.75 [+0.70, +0.80]"]
    assert cells(table, "P.875-20ms") == [*start, "−0.12 [−0.20, −0.05]", "8.0", "−1.50 [−2.00, −1.00]"]
    assert cells(table, "RNNoise")[1] == "30"
    assert cells(table, "noisy")[5:8] == ["–", "−0.88 [−0.95, −0.80]", "−4.0"]
    assert cells(table, "clean")[7:] == ["–", "–"]  # the reference itself has no SI-SDR


def test_both_kinds_of_clips_stand_in_one_row(tmp_path):
    """Who was scored on one kind only is left out."""
    held = write(tmp_path / "held", RESULTS)
    fewer = "\n".join(row for row in SCORES.splitlines() if not row.startswith("RNNoise"))
    elsewhere = write(tmp_path / "elsewhere", RESULTS | {"pretrained": fewer.replace("2.75,9.5", "2.5,9.5")})
    table = weights_table(held, elsewhere)
    values = ["2.75 (+0.88 [+0.80, +0.95])", "2.50 (+0.88 [+0.80, +0.95])"]
    assert cells(table, "CRUSE32") == ["CRUSE32", "8 581 153", "30", *values]
    assert cells(table, "noisy") == ["noisy", "", "", "1.88", "1.88"]
    assert "RNNoise" not in table


def test_look_ahead_has_a_row_for_each_kind_of_clips(tmp_path):
    table = look_ahead_table({"here": write(tmp_path / "a", RESULTS), "there": write(tmp_path / "b", RESULTS)})
    assert table.count("+0.12 [+0.10, +0.15]") == 2
    assert cells(table, "P.875")[1] == "here"


def test_deployment_shows_the_chosen_forms_and_what_int8_changes(tmp_path):
    speedups = ",".join(
        f"{kind}speedup{end}" for kind in ("", "cold_", "paced_") for end in ("", "_ci_low", "_ci_high")
    )
    times = f"""configuration,form,chosen,latency_ms,{speedups}
CRUSE32,plain,False,2.0,1,1,1,1,1,1,1,1,1
CRUSE32,int8,True,0.5,4,3.5,4.5,2,1.75,2.25,1.5,1.25,1.75
P.875,exact,True,0.125,16,15,17,8,7,9,4,3,5
"""
    parts = ",".join(f"delta_{part}{end}" for part in ("sig", "bak", "ovrl") for end in ("", "_ci_low", "_ci_high"))
    quality = f"""configuration,form,clips,{parts}
CRUSE32,int8,60,0.002,0.001,0.004,0,-0.001,0.001,0,0,0
CRUSE32,exact,60,0.5,0.5,0.5,0,0,0,0,0,0
P.875,int8,60,0,0,0,-0.003,-0.006,0.001,0,0,0
"""
    folder = write(tmp_path / "deployment", {"deployment": times, "deployment_quality": quality})
    (folder / "results" / "provenance.json").write_text('{"cpu": "A Processor"}')
    text = deployment_table([folder, folder])
    faster = ["4.00x [3.50, 4.50]", "2.00x [1.75, 2.25]", "1.50x [1.25, 1.75]"]
    assert cells(text, "CRUSE32 int8") == ["CRUSE32 int8", "A Processor", "0.50", *faster]
    assert cells(text, "P.875 exact")[2] == "0.12"
    assert "plain" not in text
    assert text.count("P.875 exact") == 2  # once a run
    assert self_check_line(folder) == "deployment: the self check is in the notebook."
    itself = "1.0,0.98,1.02,1.01,1,1.02,0.99,0.9,1.1"
    (folder / "results" / "deployment_self_check.csv").write_text(f"model,{speedups}\nself_check,{itself}\n")
    three = "1.0000x [0.9800, 1.0200], 1.0100x [1.0000, 1.0200], 0.9900x [0.9000, 1.1000]"
    assert self_check_line(folder) == f"deployment: CRUSE32 against itself, in the same three ways, {three}."
    assert "over 60 clips changes by 0.003 at most (95 % intervals within ±0.006)." in int8_line(folder)


def test_seeds_of_several_runs_stand_side_by_side(tmp_path):
    """Of 0.01, 0.02 and 0.06 the mean is 0.03, the standard error 0.01528, Student's t of two degrees 4.303."""
    head = "configuration,seed,delta_ovrl,delta_ovrl_ci_low,delta_ovrl_ci_high"
    two = ["CRUSE32,1,0,0,0", "P.500,1,0.01,-0.01,0.04", "CRUSE32,2,0,0,0", "P.500,2,0.02,0.01,0.03"]
    one = ["CRUSE32,3,0,0,0", "P.500,3,0.06,0.05,0.07", "P.250,3,-0.1,-0.2,-0.05"]
    runs = [
        write(tmp_path / name, {"figure_1_seeds": "\n".join([head, *rows])})
        for name, rows in (("second", two), ("third", one))
    ]
    text = by_seed(runs, "figure_1_seeds", "05_0", "ΔOVRL")
    each = ["+0.01 [−0.01, +0.04]", "+0.02 [+0.01, +0.03]", "+0.06 [+0.05, +0.07]"]
    assert cells(text, "ΔOVRL") == ["ΔOVRL", "seed 1", "seed 2", "seed 3", "mean of the seeds"]
    assert cells(text, "P.500") == ["P.500", *each, "+0.03 [−0.04, +0.10]"]
    assert cells(text, "P.250") == ["P.250", "", "", "−0.10 [−0.20, −0.05]", ""]  # one value tells no spread
    assert "CRUSE32" not in text


def test_published_runs_are_listed_with_code_seeds_and_processor(tmp_path):
    for name in (".", "again"):
        folder = write(tmp_path / name, {})
        (folder / "04_1_profile.ipynb").touch()
        notebooks = {"04_1_profile": {"finished": "2020-01-02T03:04"}, "07_1_deployment": None}
        facts = {"commit": "0123456789", "seeds": [1, 2], "cpu": "A Processor", "notebooks": notebooks}
        (folder / "results" / "provenance.json").write_text(json.dumps(facts))
    about = "04_1 | 0123456 | 1, 2 | A Processor | 2020-01-02 |"
    assert runs_table(tmp_path).splitlines()[2:] == [f"| this folder | {about}", f"| [again](again/) | {about}"]


def test_a_missing_result_gets_one_line(tmp_path):
    with pytest.raises(MisuseError, match=r"no pretrained_weights\.csv in held: publish a run of 07_5 under that name"):
        files_table(tmp_path / "held", tmp_path)
    with pytest.raises(MisuseError, match=r"no deployment\.csv in deployment: publish a run of 07_1 under that name"):
        deployment_table([tmp_path / "deployment"])


def test_the_texts_show_what_is_published(tmp_path):
    """Written anew from the published files, no text changes."""
    texts = {}
    for path in (PROJECT / "README.md", published.WEIGHTS / "README.md", PUBLISHED / "README.md"):
        texts[path] = tmp_path / f"{path.parent.name}.md"
        texts[path].write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    overview, model_card, runs = texts.values()
    readme.update(PUBLISHED, overview)
    card.update(PUBLISHED, overview, model_card, runs)
    for path, again in texts.items():
        assert again.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("run", ["held", "elsewhere"])
def test_published_scores_are_of_the_weights_that_come_along(run):
    table = pd.read_csv(PUBLISHED / run / "results" / "pretrained_weights.csv", dtype=str)
    judged = dict(zip(table["configuration"], table["digest"], strict=True))
    assert judged == {name: published.digest(name) for name in published.available()}
