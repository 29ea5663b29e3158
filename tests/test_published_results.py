"""Published tables follow from the published scores of every clip and times of every round, computed here by NumPy."""

import numpy as np
import pandas as pd
import pytest

from dnslib.study.publish import TARGET

FOLDERS = [TARGET, *sorted(path for path in TARGET.iterdir() if (path / "results").is_dir())]


def cases(kind: str, *tables: str) -> list:
    """Results and table of every published run that has ``<table>_<kind>.csv``."""
    return [
        pytest.param(folder / "results", table, id=f"{folder.name}-{table}")
        for folder in FOLDERS
        for table in tables
        if (folder / "results" / f"{table}_{kind}.csv").is_file()
    ]


ROUNDS = cases("rounds", "table_2", "table_8", "deployment")
CLIPS = cases("clips", "figure_1", "pretrained")
METRICS = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "si_sdr_db")


def bootstrap_means(values: pd.Series, speakers: pd.Series, draws: int = 2000) -> np.ndarray:
    """Means over whole speakers drawn with replacement."""
    groups = [part.to_numpy() for _, part in values.groupby(speakers)]
    sums, sizes = np.array([group.sum() for group in groups]), np.array([group.size for group in groups])
    drawn = np.random.default_rng(0).integers(len(groups), size=(draws, len(groups)))
    return sums[drawn].sum(1) / sizes[drawn].sum(1)


def test_there_are_published_runs_to_check():
    assert {case.id for case in ROUNDS} >= {"published-table_2", "published-table_8"}
    assert {case.id for case in CLIPS} >= {"published-figure_1", "held-pretrained", "elsewhere-pretrained"}


@pytest.mark.parametrize(("results", "name"), ROUNDS)
def test_latencies_and_speedups_are_medians_of_the_published_rounds(results, name):
    table, rounds = pd.read_csv(results / f"{name}.csv"), pd.read_csv(results / f"{name}_rounds.csv")
    labels = ["configuration", "form"] if "form" in table else ["configuration"]
    times = {key: part.set_index("round")["median_ms"] for key, part in rounds.groupby(["way", *labels])}
    for way, prefix in (("back to back", ""), ("cold", "cold_"), ("paced", "paced_")):
        for _, row in table.iterrows() if way in set(rounds["way"]) else ():
            own, first = (times[way, *line[labels]] for line in (row, table.iloc[0]))
            assert row[f"{prefix}latency_ms"] == pytest.approx(own.median(), rel=1e-6)
            assert row[f"{prefix}speedup"] == pytest.approx((first / own).median(), rel=1e-6)
            draws = np.random.default_rng(1).integers(len(own), size=(4000, len(own)))
            drawn = np.median((first / own).to_numpy()[draws], axis=1)
            low, high = row[f"{prefix}speedup_ci_low"], row[f"{prefix}speedup_ci_high"]
            spread = 0.3 * (high - low) + 1e-9
            assert np.percentile(drawn, [2.5, 97.5]) == pytest.approx([low, high], abs=spread)


@pytest.mark.parametrize(("results", "name"), CLIPS)
def test_scores_and_their_intervals_follow_from_the_published_clips(results, name):
    table, clips = pd.read_csv(results / f"{name}.csv"), pd.read_csv(results / f"{name}_clips.csv", dtype={"clip": str})
    mean = clips.replace(np.inf, np.nan).groupby(["configuration", "clip"])[list(METRICS)].mean()
    speakers = clips.groupby("clip")["speaker"].first()
    reference = "CRUSE32" if name == "figure_1" else "noisy"
    for configuration, row in table.set_index("configuration").drop("clean", errors="ignore").iterrows():
        own, base = mean.loc[configuration], mean.loc[reference]
        for metric in METRICS:
            delta = own[metric] - base[metric]
            column = "delta_" + metric.removeprefix("dnsmos_")
            assert row[metric] == pytest.approx(own[metric].mean(), abs=1e-5)
            if configuration == reference:
                continue
            assert row[column] == pytest.approx(delta.mean(), abs=1e-5)
            low, high = np.percentile(bootstrap_means(delta, speakers), [2.5, 97.5])
            published = row[f"{column}_ci_low"], row[f"{column}_ci_high"]
            if speakers.nunique() >= 10:  # fewer have Student's interval, which is wider
                assert (low, high) == pytest.approx(published, abs=0.25 * (high - low) + 1e-9), (configuration, column)
            else:
                assert published[0] < low < high < published[1]
