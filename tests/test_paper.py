"""The paper's facts as data, against the numbers of its prose typed here a second time."""

import dataclasses
import itertools

import pytest

from dnslib import paper


def test_the_widths_of_the_configurations():
    assert {name: list(widths) for name, widths in paper.CONFIGURATIONS.items()} == {
        "CRUSE32": [32, 64, 128, 256],
        "P.125": [32, 64, 128, 224],
        "P.250": [32, 64, 128, 192],
        "P.375": [32, 64, 128, 160],
        "P.500": [32, 64, 128, 128],
        "P.5625": [32, 64, 112, 112],
        "P.625": [32, 64, 96, 96],
        "P.750": [32, 64, 64, 64],
        "P.875": [32, 32, 32, 32],
        "CRUSE16": [16, 32, 64, 128],
    }


def test_eight_pruned_configurations_in_the_order_of_their_ratio():
    ratios = [paper.pruning_ratio(name) for name in paper.PRUNED]
    assert ratios == [0.125, 0.25, 0.375, 0.5, 0.5625, 0.625, 0.75, 0.875]
    assert [paper.pruning_ratio(name) for name in ("CRUSE32", "CRUSE16")] == [0, 0]


@pytest.mark.parametrize("name", paper.PRUNED)
def test_a_configuration_keeps_what_its_name_says_of_the_last_level_and_never_narrows_inwards(name):
    widths = paper.CONFIGURATIONS[name]
    assert widths[-1] == 256 * (1 - float(name.removeprefix("P")))
    assert all(outer <= inner for outer, inner in itertools.pairwise(widths))


def test_thirteen_claims_each_with_a_notebook_that_tests_it():
    notebooks = {
        "04_1_profile", "04_2_configurations", "04_3_structured_pruning", "05_0_speed_and_quality", "05_1_ablation",
        "05_2_fine_tuning", "05_3_sparsity",
    }  # fmt: skip
    assert [claim.id for claim in paper.CLAIMS] == [f"C{number}" for number in range(1, 14)]
    assert {claim.notebook for claim in paper.CLAIMS} <= notebooks
    assert all(claim.statement and claim.published and "§" in claim.where for claim in paper.CLAIMS)


def test_the_figures_that_the_prose_prints_and_no_other():
    middle, smallest = paper.PUBLISHED["P.500"], paper.PUBLISHED["P.875"]
    assert (middle.compression_ratio, middle.speedup, middle.delta_ovrl) == (3.64, 2.46, -0.01)
    assert (smallest.compression_ratio, smallest.speedup, smallest.delta_ovrl) == (None, 7.25, -0.2)
    others = {dataclasses.astuple(paper.PUBLISHED[name]) for name in set(paper.CONFIGURATIONS) - {"P.500", "P.875"}}
    assert others == {(None, None, None)}
    assert paper.PUBLISHED_FINE_TUNING_GAIN_MOS == 1.0


def test_the_claims_print_the_same_figures_as_the_table():
    printed = {claim.id: claim.published for claim in paper.CLAIMS}
    for claim, name in (("C3", "P.500"), ("C4", "P.875")):
        figures = paper.PUBLISHED[name]
        assert f"{figures.speedup}x faster" in printed[claim]
        assert f"{figures.delta_ovrl} OVRL".replace("-", "−") in printed[claim]
