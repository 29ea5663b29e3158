"""The search: designs and their space, kill and restart, one owner, the Pareto front, one real trial in the small."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dnslib import data, paper, search
from dnslib.errors import MisuseError
from dnslib.experiments import Laboratory
from dnslib.model import Cruse
from dnslib.search import Design, Outcome, Protocol, Space
from dnslib.settings import Settings
from dnslib.training import VALIDATION_BATCHES, Diverged, validate

PAPER = [Design(widths) for widths in paper.CONFIGURATIONS.values()]
KNOWN = [Design(paper.CONFIGURATIONS[name]) for name in ("CRUSE32", "P.500", "P.875")]


def made_up(design: Design) -> Outcome:
    """A smooth trade-off without noise: the wider, the slower and the better; eight groups lose a little."""
    time_share = (design.widths[-1] / 256) ** 2 * 4 / design.groups * 0.8 + sum(design.widths[:3]) / 224 * 0.2
    loss = sum(1 / width for width in design.widths) + 0.01 * design.groups
    return Outcome(time_share, 0.95 * time_share, 1.05 * time_share, (loss, loss + 0.1))


def lead_elsewhere(folder: str, hold_at: str) -> None:
    """What another process runs: a search of 8 trials that stops inside one of them."""
    evaluated = []

    def evaluate(design: Design) -> Outcome:
        evaluated.append(design)
        if len(evaluated) == int(hold_at):
            Path(folder, "holding").touch()
            time.sleep(120)
        return made_up(design)

    search.search(Path(folder), evaluate, 8, KNOWN, seed=5)


@pytest.fixture
def killed_at(tmp_path):
    """Function that leads a search in tmp_path in another process, and kills it inside the trial of that number."""
    processes = []

    def start(trial: int, kill: bool = True) -> Path:
        code = "import sys, test_search; test_search.lead_elsewhere(*sys.argv[1:])"
        paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", code, str(tmp_path), str(trial)], env=os.environ | {"PYTHONPATH": paths}
            )
        )
        deadline = time.monotonic() + 60
        while not (tmp_path / "holding").exists():
            assert processes[-1].poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (tmp_path / "holding").unlink()
        if kill:
            processes[-1].send_signal(signal.SIGKILL)
            processes[-1].wait()
        return tmp_path

    yield start
    for process in processes:
        process.kill()
        process.wait()


# --- the space -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("design", PAPER, ids=list(paper.CONFIGURATIONS))
def test_every_configuration_of_the_paper_lies_in_the_space(design):
    space = Space()
    assert space.design(space.parameters(design)) == design
    assert design.is_paper_configuration
    assert design.name in paper.CONFIGURATIONS


def test_every_proposal_is_monotone_divisible_and_no_larger_than_cruse32():
    space = Space()
    kinds = space.distributions
    corners = [(kind.low, kind.low + kind.step, kind.high) for kind in list(kinds.values())[:-1]]
    recurrent = Cruse(PAPER[0].widths).gru.weight_hh.numel()
    for *widths, groups in product(*corners, space.groups):
        proposal = {f"c{level}": width for level, width in enumerate(widths, start=1)} | {"groups": groups}
        design = space.design(proposal)
        assert list(design.widths) == sorted(design.widths)
        assert all(new <= old for new, old in zip(design.widths, widths, strict=True))
        assert design.widths[-1] % (2 * groups) == 0 or groups <= 4  # channels of a group are cut into whole halves
        assert groups * (design.widths[-1] * 9 // groups) ** 2 * 3 <= recurrent


@pytest.mark.parametrize(
    "design", [Design((32, 64, 128, 264)), Design((32, 64, 128, 100)), Design((32, 64, 128, 256), 1), Design((32, 64))]
)
def test_a_design_outside_the_space_gives_one_line(design, tmp_path):
    with pytest.raises(MisuseError, match="outside the search space"):
        search.search(tmp_path, made_up, 1, [design])


def test_names():
    assert Design((32, 64, 128, 128)).name == "P.500"
    assert Design((32, 64, 128, 128), 8).name == "P.500 / 8"
    assert not Design((32, 64, 128, 128), 8).is_paper_configuration
    assert Design((8, 16, 32, 48)).name == "8x16x32x48"


# --- the search ------------------------------------------------------------------------------------------------------


def test_known_designs_come_first_and_none_is_evaluated_twice(tmp_path):
    asked = []
    found = search.search(tmp_path, lambda design: asked.append(design) or made_up(design), 12, KNOWN)
    assert asked[:3] == KNOWN
    assert len(set(asked)) == len(asked) == 12
    assert list(found) == asked
    assert all(found[design] == made_up(design) for design in asked)


def test_going_on_leaves_earlier_trials_alone(tmp_path):
    first = search.search(tmp_path, made_up, 5, KNOWN)
    log = (tmp_path / search.JOURNAL).read_bytes()
    more = search.search(tmp_path, made_up, 7, KNOWN)
    assert list(more.items())[:5] == list(first.items())
    assert len(more) == 7
    assert (tmp_path / search.JOURNAL).read_bytes().startswith(log)
    assert search.search(tmp_path, lambda design: pytest.fail("evaluated again"), 7, KNOWN) == more


@pytest.mark.slow
@pytest.mark.parametrize("trial", [2, 6])  # a known design, and one of the sampler
def test_a_killed_search_goes_on_as_if_it_had_not_been(killed_at, tmp_path_factory, trial):
    folder = killed_at(trial)
    before = (folder / search.JOURNAL).read_bytes()
    asked = []
    resumed = search.search(folder, lambda design: asked.append(design) or made_up(design), 8, KNOWN, seed=5)
    never_killed = search.search(tmp_path_factory.mktemp("other"), made_up, 8, KNOWN, seed=5)
    assert list(resumed.items()) == list(never_killed.items())
    assert asked == list(never_killed)[trial - 1 :]  # the interrupted one again, and nothing before it
    assert (folder / search.JOURNAL).read_bytes().startswith(before)


@pytest.mark.slow
def test_twice_killed_with_a_torn_line_and_a_lock_left_behind(killed_at, tmp_path, monkeypatch):
    killed_at(2)
    folder = killed_at(2)  # the second trial of that process is the third of the search
    with (folder / search.JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code":4,"wor')
    (folder / f"{search.JOURNAL}.lock").symlink_to(search.JOURNAL)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waits for a lock that nobody holds"))
    assert len(search.search(folder, made_up, 8, KNOWN, seed=5)) == 8


def test_the_estimator_leads_after_the_random_trials(tmp_path):
    """Among as many proposals, more lie near the front than of random ones, on a trade-off without noise."""
    count = search.RANDOM_TRIALS + 40
    found = search.search(tmp_path, made_up, count, KNOWN)
    points = np.array([(outcome.latency_ratio, outcome.validation_loss) for outcome in found.values()])
    front = search.non_dominated(points)
    random, led = front[3 : 3 + search.RANDOM_TRIALS], front[3 + search.RANDOM_TRIALS :]
    assert led.mean() > random.mean()


def test_a_second_leader_is_refused_in_one_line(killed_at, tmp_path):
    killed_at(1, kill=False)
    with pytest.raises(MisuseError, match=r"led by process \d+ on .* wait until it ends\.$") as refused:
        search.search(tmp_path, made_up, 8, KNOWN)
    assert "\n" not in str(refused.value)


def test_a_trial_that_fails_counts_and_is_not_repeated(tmp_path, capsys):
    def diverging(design: Design) -> Outcome:
        if design == KNOWN[1]:
            raise Diverged("the loss is nan at step 3.")
        return made_up(design)

    found = search.search(tmp_path, diverging, 5, KNOWN)
    assert len(found) == 4
    assert KNOWN[1] not in found
    assert "P.500, failed: the loss is nan" in capsys.readouterr().out
    assert search.search(tmp_path, lambda design: pytest.fail("evaluated again"), 5, KNOWN) == found


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_interrupted_trial_is_repeated(tmp_path, error):
    def stopped(design: Design) -> Outcome:
        raise error

    with pytest.raises(error):
        search.search(tmp_path, stopped, 3, KNOWN)
    assert list(search.search(tmp_path, made_up, 3, KNOWN)) == KNOWN


def test_no_trials_are_misuse(tmp_path):
    with pytest.raises(MisuseError, match="at least 1 trial"):
        search.search(tmp_path, made_up, 0)


# --- the front -------------------------------------------------------------------------------------------------------


def test_non_dominated_by_hand():
    points = [(1, 5), (2, 3), (3, 3), (4, 1), (4, 2), (2, 3)]
    assert search.non_dominated(points).tolist() == [True, True, False, True, False, True]


def test_non_dominated_against_the_definition():
    points = np.random.default_rng(0).integers(0, 6, (40, 2))
    expected = [not any((q <= p).all() and (q < p).any() for q in points) for p in points]
    assert search.non_dominated(points).tolist() == expected


def outcome(latency: float, *losses: float, width: float = 0.05) -> Outcome:
    return Outcome(latency, latency - width, latency + width, losses)


def test_verdicts_mind_the_noise():
    crops = np.linspace(0.2, 1.0, 20)  # crops differ by far more than the networks
    wobble = 0.05 * np.where(np.arange(20) % 2, 1, -1)
    fast, slower = Design((8, 16, 32, 48)), Design((8, 16, 32, 64))
    cruse32, p500, p875, p750, p250 = (
        Design(paper.CONFIGURATIONS[name]) for name in ("CRUSE32", "P.500", "P.875", "P.750", "P.250")
    )
    found = {
        cruse32: outcome(1.0, *crops),
        fast: outcome(0.2, *(crops + 0.10)),
        p875: outcome(0.25, *(crops + 0.12)),  # surely worse than fast, but not surely slower
        p500: outcome(0.6, *(crops + 0.12)),  # surely slower and surely worse than fast
        p750: outcome(0.4, *(crops + 0.101 + wobble)),  # surely slower, a little worse on average, not surely
        p250: outcome(0.8, *(crops + 0.02)),
        slower: outcome(0.9, *(crops + 0.03)),
    }
    table = search.front_table(found).set_index("configuration")
    assert table["verdict"].to_dict() == {
        "8x16x32x48": search.ON_FRONT,
        "P.875": search.NOT_TOLD_APART,
        "P.750": search.NOT_TOLD_APART,
        "P.500": search.DOMINATED,
        "P.250": search.ON_FRONT,
        "8x16x32x64": search.NOT_TOLD_APART,
        "CRUSE32": search.ON_FRONT,
    }
    assert table.loc["P.500", "dominated_by"] == "8x16x32x48"
    assert list(table.index[:2]) == ["8x16x32x48", "P.875"]
    said = search.answer(table.reset_index())
    assert said.startswith("Of 5 configurations of the paper, 2 are on the front: P.250, CRUSE32;")
    assert "1 is dominated: P.500 (by 8x16x32x48)" in said


def test_one_lucky_comparison_of_many_dominates_nothing():
    """A difference at t = -2.5 is sure when it is the only one looked at, not when it is the best of twenty."""
    level = 0.5 + 0.01 * np.linspace(-1, 1, 20)
    noise = np.where(np.arange(20) % 2, 1.0, -1.0)  # standard error of its mean: std(noise, ddof=1) / sqrt(20) = 0.2294
    slow, lucky = Design((8, 16, 32, 64)), Design((8, 16, 32, 48))
    pair = {slow: outcome(0.9, *level), lucky: outcome(0.5, *(level + 0.01 * (noise - 2.5 * 0.2294)))}
    others = {Design((8, 16, 32, 68 + 4 * n)): outcome(0.5, *(level + 0.01)) for n in range(19)}  # all of them worse
    verdicts = [
        search.front_table(found).set_index("configuration").loc["8x16x32x64", "verdict"]
        for found in (pair, {**pair, **others})
    ]
    assert verdicts == [search.DOMINATED, search.NOT_TOLD_APART]


def test_of_all_that_dominate_the_fastest_is_named():
    crops = np.linspace(0.2, 1.0, 20)
    found = {
        KNOWN[0]: outcome(1.0, *(crops + 0.3)),
        KNOWN[1]: outcome(0.5, *crops),
        KNOWN[2]: outcome(0.2, *(crops + 0.1)),
    }
    table = search.front_table(found).set_index("configuration")
    assert table.loc["CRUSE32", "dominated_by"] == "P.875"


def test_the_table_of_trials():
    found = {
        KNOWN[1]: outcome(0.5, 0.3, 0.5),
        KNOWN[0]: outcome(1.0, 0.2, 0.3),
        Design(KNOWN[1].widths, 8): made_up(KNOWN[1]),
    }
    table = search.trial_table(found)
    assert table["configuration"].tolist() == ["P.500", "CRUSE32", "P.500 / 8"]
    assert table[["c1", "c2", "c3", "c4", "groups"]].iloc[2].tolist() == [32, 64, 128, 128, 8]
    assert table["delta_loss"].iloc[:2].tolist() == pytest.approx([0.15, 0.0])  # against CRUSE32, wherever it stands
    assert table["is_paper_configuration"].tolist() == [True, True, False]
    assert search.candidates(found)[0] == KNOWN[0]


def test_one_lucky_trial_does_not_hide_its_neighbours():
    """Timed again is what no other beat by 1.3 times in time and in the loss as well, and what is the paper's."""
    lucky, near, far, worse = (Design((8, 16, 32, width)) for width in (48, 64, 80, 96))
    found = {
        near: outcome(0.25, 0.2),
        lucky: outcome(0.2, 0.1),
        far: outcome(0.27, 0.2),
        worse: outcome(0.1, 0.9),
        KNOWN[1]: outcome(0.9, 0.9),
    }
    assert search.candidates(found) == [near, lucky, worse, KNOWN[1]]


def test_designs_of_the_same_rounds_are_compared_round_by_round():
    """Rounds differ by half, in each of them one is a tenth faster: the intervals overlap, the ratio is sure."""
    rounds = np.linspace(1.0, 1.5, 20)
    slow = Outcome(0.5, 0.4, 0.6, (0.3,), tuple(rounds))
    fast = Outcome(0.45, 0.35, 0.55, (0.2,), tuple(rounds / 1.1))
    assert search.front.surely_faster(fast, slow)
    assert not search.front.surely_faster(slow, fast)
    assert not search.front.surely_faster(fast, fast)
    trial = Outcome(0.45, 0.35, 0.55, (0.2,))
    assert not search.front.surely_faster(trial, slow)
    assert search.front.surely_faster(Outcome(0.3, 0.25, 0.35, (0.2,)), slow)


def test_nothing_of_the_paper_nothing_said():
    table = search.front_table({Design((8, 16, 32, 48)): outcome(0.2, 0.1, 0.2)})
    assert search.answer(table) == "None of the paper's configurations was evaluated."


# --- a trial ---------------------------------------------------------------------------------------------------------


class Mixtures:
    """Stands for `dnslib.data.Mixtures`: noise decided by split, seed and step."""

    def __init__(self, split: str, seed: int, batch_size: int, crop_seconds: float, device="cpu", speed_change=0.0):
        self.about, self.shape = (len(split), seed), (batch_size, round(1600 * crop_seconds))

    def batch(self, step: int):
        rng = np.random.default_rng([*self.about, step])
        target, noise = rng.normal(size=(2, *self.shape)).astype(np.float32)
        return torch.from_numpy(target + noise), torch.from_numpy(target)


@pytest.fixture
def laboratory(monkeypatch, tmp_path) -> Laboratory:
    tiny = {"CRUSE32": (4, 4, 8, 16), "P.500": (4, 4, 8, 8)}
    monkeypatch.setattr(paper, "CONFIGURATIONS", tiny)
    monkeypatch.setattr(data, "Mixtures", Mixtures)
    corpora = SimpleNamespace(train="train", validation="held out", test="test", digest="0123456789ab")
    monkeypatch.setattr(data, "prepare", lambda settings: corpora)
    sizes = {"baseline_steps": 2, "fine_tuning_steps": 1, "batch_size": 2, "crop_seconds": 1.0}
    return Laboratory(Settings(outputs=str(tmp_path), **sizes))


TINY_SPACE = Space((2, 2, 4, 8), (4, 4, 8, 16), (2, 2, 4, 8))


def test_the_mean_of_the_crops_is_the_loss_of_validation():
    torch.manual_seed(0)
    model, batches = Cruse((2, 2, 4, 4)), Mixtures("held out", 0, 3, 2.0)
    losses = search.crop_losses(model, batches, VALIDATION_BATCHES * 3)
    assert np.mean(losses) == pytest.approx(validate(model, batches), rel=1e-5)
    assert search.crop_losses(model, batches, 4) == losses[:4]


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_a_slimmed_run_starts_from_cruse32_and_has_its_groups(laboratory, groups):
    run = laboratory.slimmed((4, 4, 8, 8), groups, steps=0)
    model, start = laboratory.load(run), laboratory.load(laboratory.baseline())
    assert (model.widths, model.groups) == ((4, 4, 8, 8), groups)
    assert torch.equal(model.encoders[0].weight, start.encoders[0].weight)
    assert ("groups" in run.name) == (groups != 4)
    assert (run == laboratory.pruned("P.500")) == (groups == 4)


def test_a_search_in_a_laboratory(laboratory):
    evaluator = search.Evaluator(laboratory, Protocol(steps=1, crops=5, rounds=2, frames_per_round=3))
    known = [Design((4, 4, 8, 16)), Design((4, 4, 8, 8))]
    found = search.search(evaluator.folder, evaluator, 5, known, TINY_SPACE)
    assert len(found) == 5
    for result in found.values():
        assert 0 < result.ci_low <= result.latency_ratio <= result.ci_high
        assert len(result.losses) == 5
    again = search.remeasured(evaluator, found, rounds=3, frames_per_round=3)
    assert set(again) == set(search.candidates(found)) >= set(known)
    assert all(again[design].losses == found[design].losses for design in again)
    table = search.front_table(again)
    assert table["on_front"].any()
    assert set(table["verdict"]) <= {search.ON_FRONT, search.NOT_TOLD_APART, search.DOMINATED}
    assert all(json.loads(line) for line in (evaluator.folder / search.JOURNAL).read_text().splitlines())


def test_a_latency_is_a_share_of_cruse32s_and_a_loss_of_held_out_crops(laboratory, monkeypatch):
    """Every file takes a time of its own: 1 ms the one that was asked for first, 2 ms the next one ..."""
    asked = []

    def measure(paths, rounds, frames_per_round, *_, **__):
        asked.extend(path for path in paths.values() if path not in asked)
        return {name: np.full((rounds, frames_per_round), 1e6 * (1 + asked.index(p))) for name, p in paths.items()}

    monkeypatch.setattr(search.evaluation.profiling.latency, "measure_times", measure)
    monkeypatch.setattr(search.front.profiling, "measure_times", measure)
    evaluator = search.Evaluator(laboratory, Protocol(steps=1, crops=5, rounds=2, frames_per_round=3))
    designs = Design((4, 4, 8, 16)), Design((4, 4, 8, 8))
    found = {design: evaluator(design) for design in designs}
    times_ms = dict(zip(asked, (1, 2, 3), strict=True))
    base_ms = times_ms[laboratory.streaming_file(laboratory.baseline("CRUSE32"))]
    for results in (found, search.remeasured(evaluator, found, rounds=2, frames_per_round=3)):
        for design, result in results.items():
            share = times_ms[laboratory.streaming_file(evaluator.run(design))] / base_ms
            assert (result.ci_low, result.latency_ratio, result.ci_high) == pytest.approx([share] * 3)
            model, held_out = laboratory.load(evaluator.run(design)), Mixtures("held out", 1, 2, 1.0)
            assert list(result.losses) == search.crop_losses(model, held_out, 5)


def test_another_protocol_is_another_search(laboratory):
    folders = {
        search.Evaluator(laboratory, protocol).folder
        for protocol in (Protocol(), Protocol(steps=41), Protocol(crops=33))
    }
    assert len(folders) == 3


def test_another_machine_or_runtime_is_another_search(laboratory, monkeypatch):
    folders, machine = set(), search.evaluation.profiling.timing_conditions()
    for change in ({}, {"cpu": "another"}, {"onnxruntime": "another"}, {"load_1_min": -1.0}):
        monkeypatch.setattr(search.evaluation.profiling, "timing_conditions", lambda change=change: machine | change)
        folders.add(search.Evaluator(laboratory, Protocol()).folder)
    assert len(folders) == 3  # the load changes nothing
