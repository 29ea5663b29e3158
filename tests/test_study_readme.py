"""The README's results come from files: what stands there is what a run wrote, and nothing around it changes."""

import json

import pytest

from dnslib.errors import MisuseError
from dnslib.study.markdown import interval, markers
from dnslib.study.readme import answer_table, block, claims_table, processor, training, update

START, END = markers("results")
TABLE_2 = """configuration,channels,parameters,compression_ratio,latency_ms,speedup,speedup_ci_low,speedup_ci_high,\
cold_speedup,cold_speedup_ci_low,cold_speedup_ci_high
CRUSE32,32 64,8581153,1.0,1.625,1.0,1.0,1.0,1.0,1.0,1.0
P.500,32 32,2356257,3.6418,0.5,3.25,3.2,3.3,2.46,2.4,2.51
P.875,32 32,167841,51.13,0.1,12,11,13,9,8,10
self_check,32 64,8581153,1.0,1.6,0.99,0.9,1.1,1.0,0.9,1.1
"""
FIGURE_1 = """configuration,dnsmos_ovrl,delta_ovrl,delta_ovrl_ci_low,delta_ovrl_ci_high,clips,seeds,delta_sig,delta_bak
CRUSE32,2.625,0.0,0.0,0.0,24,1,0.0,0.0
P.500,2.6,-0.0141,-0.05,0.02,24,1,0.031,-0.11
P.875,2.6,-0.0141,-0.05,0.02,24,1,-0.02,-0.25
"""
TABLE_5 = """configuration,dnsmos_ovrl,delta_ovrl,delta_ovrl_ci_low,delta_ovrl_ci_high
CRUSE32,2.625,0.5,0.25,0.75
CRUSE16,2.5,0.375,0.1,0.6
"""
SETTINGS = {
    "data": "",
    "baseline_cycles": 2,
    "baseline_steps": 30,
    "fine_tuning_steps": 7,
    "batch_size": 8,
    "crop_seconds": 2.5,
}


@pytest.fixture
def outputs(tmp_path):
    results = tmp_path / "outputs" / "results"
    results.mkdir(parents=True)
    (results / "table_2.csv").write_text(TABLE_2)
    (results / "figure_1.csv").write_text(FIGURE_1)
    (results / "table_5.csv").write_text(TABLE_5)
    (results / "claims.csv").write_text("id,verdict\nC1,reproduced\nC2,reproduced\nC3,not reproduced\n")
    (results / "provenance.json").write_text(
        json.dumps({"profile": "quick", "cpu": "A Processor", "settings": SETTINGS})
    )
    return results.parent


def test_the_block_says_what_the_files_say(outputs):
    lines = block(outputs).splitlines()
    assert lines[2] == "| CRUSE32 | 32 64 | 8 581 153 | 1.00x | 1.62 | – | – | 2.62 | – |"
    p500 = "| P.500 | 32 32 | 2 356 257 | 3.64x | 0.50 | 3.25x [3.20, 3.30] | 2.46x [2.40, 2.51] | 2.60 |"
    assert lines[3] == p500 + " −0.01 [−0.05, +0.02] |"
    assert lines[5] == ""  # the self check is no configuration
    assert lines[6] == "The noisy clips score 2.12; CRUSE32 gains +0.50 [+0.25, +0.75] over them."
    assert "ΔSIG from −0.02 to +0.03, ΔBAK from −0.25 to −0.11." in lines[7]
    trained = "60 training steps of 8 x 2.5 s on synthesised speech and noise, 7 more after pruning"
    assert lines[8].startswith(f"A quick run, {trained}; 24 test clips, one seed; A Processor")
    assert lines[8].endswith("CRUSE32 against itself: 0.99x [0.90, 1.10], cold 1.00x [0.90, 1.10].")
    assert lines[9] == "Of the paper's 13 claims: 2 reproduced, 1 not reproduced."


def test_processors_of_one_name_are_told_apart_by_their_cache(outputs):
    assert processor(outputs) == "A Processor"
    (outputs / "results" / "deployment.csv").write_text("model,cold_evicted_mb\nCRUSE32,67.1\nP.500,67.1\n")
    assert processor(outputs) == "A Processor, last-level cache 34 MB"


def test_seeds_are_told_apart(outputs):
    (outputs / "results" / "figure_1.csv").write_text(FIGURE_1.replace(",24,1,", ",24,3,"))
    by_seed = {"CRUSE32": (0, 0, 0), "P.500": (-0.01, 0.02, -0.02), "P.875": (-0.21, -0.12, -0.17)}
    told = [f"{name},{seed},{delta}" for name, deltas in by_seed.items() for seed, delta in enumerate(deltas)]
    (outputs / "results" / "figure_1_seeds.csv").write_text("\n".join(["configuration,seed,delta_ovrl", *told]))
    lines = block(outputs).splitlines()
    assert "24 test clips, 3 seeds; A Processor" in lines[8]
    assert lines[9] == "Between seeds ΔOVRL differs by 0.04 (P.500) to 0.09 (P.875)."


def test_the_answer_has_a_row_a_network_and_run(outputs):
    lines = answer_table({"one": outputs, "two": outputs}).splitlines()
    middle = "| 3.6x | 3.25x [3.20, 3.30] | 2.46x [2.40, 2.51] | −0.01 [−0.05, +0.02] |"
    assert lines[2:4] == [f"| P.500 | {run} {middle}" for run in ("one", "two")]
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| P.875"] * 2
    (outputs / "results" / "table_2.csv").write_text(TABLE_2.replace("P.875", "P.750"))
    with pytest.raises(MisuseError, match=r"no P\.875 in .*table_2\.csv"):
        answer_table({"one": outputs})


def test_verdicts_of_several_runs_stand_side_by_side(tmp_path):
    told = {
        "first": "C1,it was fast,3x,reproduced,2x,all of it.\nC2,it is good,better,not reproduced,-1,half of it.",
        "again": "C1,it is fast,3x,reproduced,3x,all of it.",
        "other": "C1,it is fast,3x,not reproduced,1x,none of it.",
    }
    head = "id,statement,published,verdict,measured,reason"
    for name, text in told.items():
        (tmp_path / name / "results").mkdir(parents=True)
        (tmp_path / name / "results" / "claims.csv").write_text(f"{head}\n{text}\n")
    runs = {name: tmp_path / name for name in told}
    with pytest.raises(ValueError, match=r"shorter|longer"):
        claims_table(runs)  # not the same claims
    assert claims_table({"a": runs["other"], "b": runs["again"]}).splitlines() == [
        "|  | claim | the paper | a | b |",
        "| --- | --- | --- | --- | --- |",
        "| C1 | it is fast | 3x | **not reproduced**: 1x | **reproduced**: 3x |",
    ]


def test_recordings_are_called_so():
    assert "on recordings" in training(SETTINGS | {"data": "somewhere"})


def test_a_figure_that_is_there_is_shown_with_the_notebooks(outputs):
    (outputs / "figure_1.png").write_bytes(b"a picture")
    lines = block(outputs).splitlines()
    assert lines[0].startswith("![")
    assert lines[0].endswith("(outputs/figure_1.png)")
    assert lines[2].startswith("Speedup (back to back, logarithmic) against DNSMOS.")
    assert "(outputs/results/)" in lines[4]
    assert lines[6].startswith("| configuration |")


def test_an_interval_keeps_its_sign():
    row = {"x": "0.5", "x_ci_low": "-0.25", "x_ci_high": "1.25"}
    assert interval(row, "x", sign="+") == "+0.50 [−0.25, +1.25]"
    assert interval(row | {"x_ci_low": "nan", "x_ci_high": "nan"}, "x", sign="+") == "+0.50"


def test_only_what_lies_between_the_markers_changes(outputs, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# before\n{START}\nyesterday\n{END}\nafter\n")
    update(outputs, readme)
    once = readme.read_text()
    assert once.startswith(f"# before\n{START}\n| configuration |")
    assert once.endswith(f"\n{END}\nafter\n")
    assert "yesterday" not in once
    update(outputs, readme)
    assert readme.read_text() == once


def test_a_readme_without_markers_and_a_missing_run_get_one_line(outputs, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("no markers")
    with pytest.raises(MisuseError, match="needs the lines"):
        update(outputs, readme)
    readme.write_text(f"{START}\n{END}")
    with pytest.raises(MisuseError, match=r"no table_2\.csv yet"):
        update(tmp_path / "nowhere", readme)
    assert readme.read_text() == f"{START}\n{END}"
