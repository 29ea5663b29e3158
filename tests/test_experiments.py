"""Runs: what decides a key, trained once, resumed after a kill, shared by processes, scored once, no pickle kept."""

import ast
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save

from dnslib import data, experiments, export, intervals, paper, profiling, published, quality, training
from dnslib.errors import MisuseError
from dnslib.experiments import CYCLE_SEEDS, Laboratory, Run, configuration_name, describe, run_of, train_all
from dnslib.experiments.files import scores_name
from dnslib.experiments.runs import LOSSES
from dnslib.experiments.streaming import CONDITIONS
from dnslib.loss import PAPER, LossWeights
from dnslib.model import Cruse, enhance, load_network, parameter_count, save_weights
from dnslib.pruning import prune, sparsify
from dnslib.settings import Settings
from dnslib.training import CHECKPOINT

TINY = {"CRUSE32": (4, 4, 8, 8), "P.500": (4, 4, 4, 4), "CRUSE16": (2, 2, 4, 4)}
STEPS, TUNING_STEPS = 10, 4


class Mixtures:
    """Stands for `dnslib.data.Mixtures`: noise decided by split, seed and step; notes every step asked for."""

    asked: list[tuple[str, int]] = []  # noqa: RUF012 - cleared by the fixture
    hook = staticmethod(lambda step: None)

    def __init__(self, split: str, seed: int, batch_size: int, crop_seconds: float, device=None, speed_change=0.0):
        self.split, self.seed, self.shape = split, seed, (batch_size, round(crop_seconds * 1600))  # a tenth as long

    def batch(self, step: int):
        self.asked.append((self.split, step))
        if self.split == "train":
            self.hook(step)
        rng = np.random.default_rng([len(self.split), self.seed, step])
        target = rng.normal(size=self.shape).astype(np.float32)
        return torch.from_numpy(target + rng.normal(size=self.shape).astype(np.float32)), torch.from_numpy(target)


def clips(split: str, count: int, seconds: float, seed: int) -> list[data.Clip]:
    """Stands for `dnslib.data.test_clips`: short noise, other for another split or length; one a speaker."""
    rng = np.random.default_rng([len(split), seed, round(100 * seconds)])
    noisy, clean = rng.normal(scale=0.1, size=(2, count, round(160 * seconds))).astype(np.float32)
    return [data.Clip(f"{i:03d}", noisy[i], clean[i], 0.0, -20.0, f"{split}-{i}", "noise") for i in range(count)]


def prepared(settings: Settings) -> SimpleNamespace:
    return SimpleNamespace(train="train", validation="held out", test="test", digest="0123456789ab")


def stand_in(replace) -> None:
    """Tiny networks, tiny data."""
    replace(paper, "CONFIGURATIONS", TINY)
    replace(data, "Mixtures", Mixtures)
    replace(data, "test_clips", clips)
    replace(data, "prepare", prepared)


def settings(outputs: Path, **values) -> Settings:
    sizes = {"baseline_steps": STEPS, "fine_tuning_steps": TUNING_STEPS, "batch_size": 2, "crop_seconds": 1.0}
    return Settings(outputs=str(outputs), test_clips=3, **sizes | values)


def train_elsewhere(outputs: str, wait_at: str) -> None:
    """What another process runs: trains the baseline, saves at every step, and stops at one."""
    torch.set_num_threads(1)
    stand_in(setattr)
    training.CHECKPOINT_SECONDS = -1.0
    Mixtures.hook = staticmethod(lambda step: hold(Path(outputs)) if step == int(wait_at) else None)
    laboratory = Laboratory(settings(Path(outputs)))
    laboratory.train(laboratory.baseline())


def hold(outputs: Path) -> None:
    """Say so, and wait to be killed."""
    (outputs / "holding").touch()
    time.sleep(120)


def until(condition, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def other_process(tmp_path):
    """A process that trains the baseline in tmp_path and stops at a step, without letting go of it."""
    processes = []

    def start(wait_at: int) -> subprocess.Popen:
        code = "import sys, test_experiments; test_experiments.train_elsewhere(*sys.argv[1:])"
        paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        processes.append(
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(wait_at)], env=environment)
        )  # fmt: skip
        until(lambda: (tmp_path / "holding").exists() or processes[-1].poll() is not None)
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def small_world(monkeypatch, request):
    Mixtures.asked.clear()
    if "real" not in request.fixturenames:
        stand_in(monkeypatch.setattr)


@pytest.fixture
def lab(tmp_path) -> Laboratory:
    return Laboratory(settings(tmp_path))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Laboratory:
    """A laboratory whose baseline is trained; tests only read or add."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch.setattr)
        laboratory = Laboratory(settings(tmp_path_factory.mktemp("laboratory")))
        laboratory.train(laboratory.baseline())
    return laboratory


def steps_asked(split: str = "train") -> list[int]:
    return [step for name, step in Mixtures.asked if name == split]


def same_parameters(a: Cruse, b: Cruse) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- records and keys -----------------------------------------------------------------------------------------------

ANOTHER = {
    "widths": (4, 4, 8, 12), "steps": 11, "learning_rate": 2e-3, "weight_decay": 0.2, "batch_size": 3,
    "crop_seconds": 1.5, "seed": 1, "data": "other", "sparsity": 0.25, "start": Run((4, 4, 8, 8)), "groups": 2,
    "speed_change": 0.1, "loss": LossWeights(pauses=0.1), "look_ahead": 1, "shipped": "another",
}  # fmt: skip


def test_the_key_depends_on_every_field():
    run = Run((4, 4, 8, 8), steps=10)
    assert set(ANOTHER) == {field.name for field in dataclasses.fields(Run)}
    others = [dataclasses.replace(run, **{name: value}) for name, value in ANOTHER.items()]
    others.append(dataclasses.replace(run, start=Run((4, 4, 8, 8), seed=1)))  # and on what it starts from
    assert len({run.key, *(other.key for other in others)}) == len(ANOTHER) + 2
    assert run.key == Run((4, 4, 8, 8), steps=10).key


def test_the_key_depends_on_the_code_that_trains(monkeypatch):
    run = Run((4, 4, 8, 8))
    before = run.key
    monkeypatch.setattr(experiments.runs, "code_digest", lambda: "changed")
    assert run.key != before


PACKAGE = Path(experiments.__file__).parents[1]
TRAINS = ("training.py", "pruning.py", "data/mixtures.py", "experiments/training.py")
DECIDE_NO_WEIGHTS = {
    *("errors", "paths", "locks", "progress", "machine", "quality", "intervals"),  # how it is done and judged
    *("experiments/files", "experiments/runs"),
    "digests",  # which networks are found again
    "paper",  # names of the widths that a run holds
    *("published", "settings"),  # weights that come along, whose digest a run holds
    *("data/__init__", "data/blind", "data/clips"),  # what is judged, not trained on
    *("data/preparation", "data/caches", "data/store", "data/workers"),  # whose content has a digest: what is prepared,
    *("data/embedded", "data/added", "data/noise", "data/speech", "data/sentences"),  # synthesised
    *("data/recordings", "data/splits", "data/folders", "data/layouts", "data/scan", "data/sources"),  # or recorded
}


def imports_of(file: Path) -> set[Path]:
    """The files of this package that a file names in its imports, wherever they stand."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = [PACKAGE.joinpath(*name.split(".")[1:]) for name in names if name.startswith("dnslib.")]
    return {file for one in places for file in (one.with_suffix(".py"), one / "__init__.py") if file.is_file()}


def test_the_key_depends_on_all_code_that_decides_weights():
    """Whatever the training imports is in the key, or in the list of what decides no weights."""
    reached, ahead = set(), {PACKAGE / name for name in TRAINS}
    while ahead:
        file = ahead.pop()
        reached.add(file)
        ahead |= imports_of(file) - reached
    in_key = {PACKAGE / name for name in experiments.runs._CODE}
    names = {file.relative_to(PACKAGE).with_suffix("").as_posix() for file in reached - in_key}
    assert names - DECIDE_NO_WEIGHTS == set()


def test_the_digest_of_the_code_covers_every_file_it_names(tmp_path, monkeypatch):
    copy = tmp_path / "dnslib"
    for name in experiments.runs._CODE:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((PACKAGE / name).read_bytes())
    monkeypatch.setattr(experiments.runs, "__file__", str(copy / "experiments" / "runs.py"))
    digest = experiments.code_digest.__wrapped__  # it is remembered otherwise
    digests = [digest()]
    assert digests == [experiments.code_digest()]
    for name in experiments.runs._CODE:
        with (copy / name).open("a") as file:
            file.write("changed = True\n")
        digests.append(digest())
    assert len(set(digests)) == 1 + len(experiments.runs._CODE)


def test_the_key_does_not_depend_on_where_results_go_or_what_only_scores(tmp_path):
    here = Laboratory(settings(tmp_path / "a"))
    there = Laboratory(settings(tmp_path / "b", clip_seconds=12.0, latency_rounds=7, seed_count=3))
    for make in (Laboratory.baseline, lambda lab: lab.fine_tuned("P.500"), lambda lab: lab.sparse(0.5, True)):
        assert make(here) == make(there)
        assert make(here).name == make(there).name
        assert here.folder(make(here)) != there.folder(make(there))


def test_the_runs_of_a_study(lab):
    base, tuned = lab.baseline(), lab.fine_tuned("P.500")
    assert (base.widths, base.steps, base.start, base.data) == (TINY["CRUSE32"], STEPS, None, "0123456789ab")
    assert (tuned.widths, tuned.steps, tuned.start) == (TINY["P.500"], TUNING_STEPS, base)
    assert (lab.pruned("P.500").steps, lab.pruned("P.500").start) == (0, base)
    assert (lab.direct("P.500").steps, lab.direct("P.500").start) == (STEPS + TUNING_STEPS, None)
    assert lab.direct("P.500") == lab.baseline("P.500", steps=STEPS + TUNING_STEPS)
    assert lab.fine_tuned("P.500", learning_rate=0.01) == dataclasses.replace(tuned, learning_rate=0.01)
    assert lab.fine_tuned("P.500", seed=7).start.seed == lab.fine_tuned("P.500", seed=7).seed == 7
    sparse = lab.sparse(0.5, fine_tuned=True)
    assert (sparse.widths, sparse.sparsity, sparse.steps, sparse.start) == (base.widths, 0.5, TUNING_STEPS, base)
    assert lab.sparse(0.5, fine_tuned=False).steps == 0
    names = ("CRUSE32", "CRUSE16", "P.500")
    assert [lab.network(name) for name in names] == [base, lab.baseline("CRUSE16"), tuned]


def test_a_cycle_more_begins_where_the_ones_before_ended(lab):
    """With other batches, and with the steps of direct training in the last cycle only."""
    longer = Laboratory(lab.settings.model_copy(update={"baseline_cycles": 3}))
    longer.__dict__["corpora"] = lab.corpora
    last, second = longer.baseline(), longer.baseline().start
    assert second.start == lab.baseline()
    assert (last.seed, second.seed, second.start.seed) == (2 * CYCLE_SEEDS, CYCLE_SEEDS, 0)
    assert (last.steps, second.steps) == (STEPS, STEPS)
    assert longer.fine_tuned("P.500").start == last
    direct = longer.direct("P.500")
    assert (direct.steps, direct.start.steps, direct.start.start.steps) == (STEPS + TUNING_STEPS, STEPS, STEPS)
    assert describe(last) == "CRUSE32 trained further, seed 2000"
    ways = (direct, longer.fine_tuned("P.500"), longer.pruned("P.500"), longer.untrained("P.500"))
    assert [run.total_steps for run in ways] == [3 * STEPS + TUNING_STEPS, 3 * STEPS + TUNING_STEPS, 3 * STEPS, 0]


def test_a_person_recognises_a_run(lab):
    runs = [lab.baseline(seed=3), lab.pruned("P.500"), lab.fine_tuned("P.500"), lab.sparse(0.25, False)]
    starts = ["CRUSE32-seed3-", "P.500-pruned-seed0-", "P.500-tuned-seed0-", "CRUSE32-sparse0.25-pruned-seed0-"]
    assert [run.name for run in runs] == [start + run.key for start, run in zip(starts, runs, strict=True)]
    assert configuration_name((3, 5)) == "3x5"
    assert [describe(run) for run in runs] == ["CRUSE32, seed 3", "P.500", "P.500 after pruning", "CRUSE32 25% sparse"]


@pytest.mark.parametrize("ask", ["untrained", "baseline", "direct", "pruned", "fine_tuned", "network"])
def test_an_unknown_configuration_gives_one_line_with_the_nearest_one(lab, ask):
    with pytest.raises(MisuseError, match=r"^unknown configuration CRUSE64: did you mean CRUSE\d\d\?$"):
        getattr(lab, ask)("CRUSE64")


# --- training -------------------------------------------------------------------------------------------------------


def test_a_network_is_trained_once_also_for_another_laboratory(lab):
    run = lab.baseline()
    folder = lab.train(run)
    assert steps_asked() == list(range(STEPS))
    Mixtures.asked.clear()
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = Laboratory(lab.settings)
    assert (again.train(again.baseline()), lab.train(run)) == (folder, folder)
    again.load(run)
    again.history(run)
    assert Mixtures.asked == []
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_a_folder_tells_all_about_its_run(trained):
    run = trained.baseline()
    folder = trained.train(run)
    files = {path.name for path in folder.iterdir() if path.suffix != ".onnx" and "scores" not in path.name}
    assert files == {"config.json", "history.csv", "model.safetensors", "summary.json", "DONE"}
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("code") == experiments.code_digest()
    assert run_of(config) == run
    history, summary = trained.history(run), trained.summary(run)
    assert list(history) == ["step", "loss", "learning_rate", "gradient_norm"]
    assert history["step"].tolist() == list(range(STEPS))
    later = trained.fine_tuned("P.500")
    assert trained.history(later)["step"].iloc[0] == 0
    assert trained.history(later, from_random=True)["step"].iloc[0] == STEPS
    assert summary["parameters"] == sum(
        len(tensor.flatten()) for tensor in load_file(folder / "model.safetensors").values()
    )
    assert summary["sparsity"] == 0
    assert summary["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]  # "2.13.0+cpu"
    assert summary["cpu"]
    assert summary["device"] == experiments.device().type
    assert summary["audio_seconds"] == STEPS * 2 * 1.0  # steps, clips, seconds
    assert summary["validation_loss"] == pytest.approx(
        training.validate(trained.load(run), Mixtures("held out", 0, 2, 1.0))
    )


def test_no_pickle_is_kept_and_none_is_read_to_load_a_network(trained, monkeypatch):
    monkeypatch.setattr(torch, "load", None)
    model = trained.load(trained.baseline())
    assert (model.widths, model.training) == (TINY["CRUSE32"], False)
    files = [path for path in trained.train(trained.baseline()).iterdir() if path.stat().st_size]
    assert not [path.name for path in files if path.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")]


def test_the_same_run_elsewhere_has_the_same_bytes_and_another_seed_others(trained, tmp_path):
    elsewhere = Laboratory(settings(tmp_path))
    files = [lab.train(lab.baseline()) / "model.safetensors" for lab in (trained, elsewhere)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not same_parameters(trained.load(trained.baseline()), elsewhere.load(elsewhere.baseline(seed=1)))


def test_what_a_run_starts_from_is_trained_first(lab):
    tuned = lab.fine_tuned("P.500")
    lab.train(tuned)
    assert (lab.folder(tuned.start) / "DONE").exists()
    assert steps_asked() == [*range(STEPS), *range(TUNING_STEPS)]


def test_a_pruned_run_is_the_slice_of_its_start_and_not_trained(trained):
    run = trained.pruned("P.500")
    expected = prune(trained.load(run.start), TINY["P.500"])
    Mixtures.asked.clear()
    assert same_parameters(trained.load(run), expected)
    assert steps_asked() == []
    assert trained.summary(run)["parameters"] == parameter_count(expected)
    assert trained.history(run).empty


def test_fine_tuning_goes_on_from_the_slice(trained, tmp_path):
    run = trained.fine_tuned("P.500")
    expected = prune(trained.load(run.start), TINY["P.500"])
    batches = Mixtures("train", run.seed, run.batch_size, run.crop_seconds)
    recipe = training.Recipe(TUNING_STEPS, run.learning_rate, run.weight_decay)
    training.train(expected, batches, recipe, tmp_path)
    assert same_parameters(trained.load(run), expected)


def test_the_loss_asked_for_is_that_of_every_step_but_not_of_the_validation(tmp_path, monkeypatch):
    asked, original = [], training.compressed_spectral_loss

    def loss(estimate, target, weights=PAPER):
        asked.append(weights)
        return original(estimate, target, weights)

    monkeypatch.setattr(training, "compressed_spectral_loss", loss)
    lab = Laboratory(settings(tmp_path, loss="weighted"))
    lab.train(lab.baseline())
    assert asked == [LOSSES["weighted"]] * STEPS + [PAPER] * training.VALIDATION_BATCHES


def test_the_papers_loss_has_no_weights_of_ours():
    assert LOSSES["paper"] == LossWeights(complex_share=0.3, over_suppression=1.0, pauses=0.0)


def test_every_loss_is_a_setting():
    assert get_args(Settings.model_fields["loss"].annotation) == tuple(LOSSES)


def test_the_look_ahead_of_a_run_is_that_of_its_network_and_its_file(tmp_path):
    lab = Laboratory(settings(tmp_path, look_ahead=1))
    later = dataclasses.replace(lab.fine_tuned("P.500"), look_ahead=2)  # than the network it starts from
    clip = clips("test", 1, 10.0, 0)
    for run in (lab.baseline(), later):
        model, path = lab.load(run), lab.folder(run) / "model.safetensors"
        assert model.look_ahead == load_network(path).look_ahead == run.look_ahead
        for form in ("plain", "exact"):
            np.testing.assert_allclose(lab.enhanced(run, clip, form)[0], enhance(model, clip[0].noisy), atol=1e-5)


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_a_sparse_run_keeps_its_zeros(trained, fine_tuned):
    run = trained.sparse(0.75, fine_tuned)
    start = sparsify(trained.load(run.start), 0.75)
    model = trained.load(run)
    assert trained.summary(run)["sparsity"] == 0.75
    assert torch.equal(model.gru.weight_hh == 0, start.gru.weight_hh == 0)
    assert same_parameters(model, start) != fine_tuned


@pytest.fixture
def coming_along(tmp_path, monkeypatch) -> dict[str, Cruse]:
    """Tiny weights in place of those that the project brings along, by name."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(published, "WEIGHTS", folder)
    monkeypatch.setattr(published, "CONFIGURATIONS", TINY)
    torch.manual_seed(3)
    models = {name: Cruse(TINY[name], look_ahead=1) for name in ("CRUSE32", "P.500")}
    for name, model in models.items():
        save_weights(model.state_dict(), folder / f"{name}.safetensors", {"look_ahead": 1})
    return models


def test_weights_that_come_along_take_the_place_of_training(coming_along, tmp_path):
    lab = Laboratory(settings(tmp_path, pretrained=True, look_ahead=1))
    for run, name in (
        (lab.baseline(), "CRUSE32"),
        (lab.baseline(seed=5), "CRUSE32"),
        (lab.network("CRUSE32"), "CRUSE32"),
        (lab.network("P.500"), "P.500"),
    ):
        assert same_parameters(lab.load(run), coming_along[name])
        assert (lab.load(run).look_ahead, run.steps, run.total_steps) == (1, 0, 0)
    assert steps_asked() == []
    assert same_parameters(lab.load(lab.pruned("P.500")), prune(coming_along["CRUSE32"], TINY["P.500"]))
    assert lab.history(lab.fine_tuned("P.500"), from_random=True)["step"].tolist() == list(range(TUNING_STEPS))
    assert lab.baseline("CRUSE16").steps == STEPS  # none come along


def test_other_weights_under_a_name_are_another_run(coming_along, tmp_path):
    lab = Laboratory(settings(tmp_path, pretrained=True, look_ahead=1))
    before = lab.baseline()
    save_weights(coming_along["P.500"].state_dict(), published.WEIGHTS / "CRUSE32.safetensors", {"look_ahead": 1})
    assert lab.baseline().key != before.key


@pytest.mark.parametrize("look_ahead", [0, 2])
def test_weights_with_another_look_ahead_are_not_taken(coming_along, tmp_path, look_ahead):
    lab = Laboratory(settings(tmp_path, pretrained=True, look_ahead=look_ahead))
    with pytest.raises(
        MisuseError, match=rf"CRUSE32 look {look_ahead} frames ahead; there are CRUSE32 \(1\), P.500 \(1\)"
    ):
        lab.baseline()


def test_random_weights_need_no_data(lab, monkeypatch):
    monkeypatch.setattr(data, "prepare", None)
    run = lab.untrained("P.500")
    model = lab.load(run)
    torch.manual_seed(lab.settings.seed)
    assert same_parameters(model, Cruse(TINY["P.500"]))
    assert "validation_loss" not in lab.summary(run)


def test_a_failed_training_is_not_done_and_is_tried_again(lab, monkeypatch):
    def broken(step: int) -> None:
        raise OSError("no such recording")

    monkeypatch.setattr(Mixtures, "hook", staticmethod(broken))
    with pytest.raises(OSError, match="no such recording"):
        lab.train(lab.baseline())
    assert not (lab.folder(lab.baseline()) / "DONE").exists()
    monkeypatch.undo()
    stand_in(monkeypatch.setattr)
    assert (lab.train(lab.baseline()) / "DONE").exists()


def test_a_crash_while_the_network_is_written_leaves_nothing_that_looks_like_one(trained, lab, monkeypatch):
    def disk_is_full(weights, path: Path, metadata: dict) -> None:
        path.write_bytes(save(weights, metadata)[:-100])
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dnslib.model.save_file", disk_is_full)
        with pytest.raises(OSError, match="no space left"):
            lab.train(lab.baseline())
    folder, whole = lab.folder(lab.baseline()), trained.folder(trained.baseline())
    assert not (folder / "DONE").exists()
    assert not (folder / "model.safetensors").exists()
    lab.train(lab.baseline())
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
@pytest.mark.parametrize("what", ["network", "checkpoint"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(tmp_path, what):
    """Files that may not grow stand for a disk that is full: the libraries' own writers fail in the same way."""
    import resource

    model, limits = Cruse((32, 32, 32, 32)), resource.getrlimit(resource.RLIMIT_FSIZE)
    write = {
        "network": lambda: save_weights(model.state_dict(), tmp_path / "model.safetensors", {}),
        "checkpoint": lambda: training._save_checkpoint(
            tmp_path / CHECKPOINT, model, torch.optim.AdamW(model.parameters()), []
        ),
    }[what]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(MisuseError, match="is the disk full"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_several_runs_in_one_call(lab):
    runs = [lab.untrained("P.500"), lab.untrained("CRUSE16")]
    train_all(lab, runs)
    assert all((lab.folder(run) / "DONE").exists() for run in runs)


# --- two that want the same run, a kill -----------------------------------------------------------------------------


def ask_in_background(laboratory: Laboratory) -> threading.Thread:
    asking = threading.Thread(target=laboratory.train, args=(laboratory.baseline(),), daemon=True)
    asking.start()
    return asking


def met_a_lock(monkeypatch) -> threading.Event:
    """Set when somebody, from now on, asks for a run that another one may be training."""
    met, waiting = threading.Event(), experiments.laboratory.waiting

    def watched(path: Path, what: str):
        met.set()
        return waiting(path, what)

    monkeypatch.setattr(experiments.laboratory, "waiting", watched)
    return met


def test_two_that_ask_for_the_same_run_train_it_once(lab, monkeypatch, capsys):
    """The second one waits while the first one trains, and then finds it done."""
    holding, go = threading.Event(), threading.Event()
    monkeypatch.setattr(Mixtures, "hook", staticmethod(lambda step: holding.set() or go.wait(60)))
    first = ask_in_background(lab)
    assert holding.wait(60)
    waiting = met_a_lock(monkeypatch)
    second = ask_in_background(Laboratory(lab.settings))
    assert waiting.wait(60)
    assert second.is_alive()
    go.set()
    for asking in (first, second):
        asking.join(60)
        assert not asking.is_alive()
    assert steps_asked() == list(range(STEPS))
    assert len(lab.history(lab.baseline())) == STEPS
    assert capsys.readouterr().out.count("held by another process, waiting") == 1


def test_a_killed_training_is_taken_over_and_ends_with_the_same_bytes(
    trained, lab, monkeypatch, other_process, capsys
):  # fmt: skip
    """Another process holds at step 7, with its steps 4 to 6 under way, and is killed there at no chosen moment."""
    process = other_process(wait_at=7)
    waiting = met_a_lock(monkeypatch)
    asking = ask_in_background(lab)
    assert waiting.wait(60)
    assert asking.is_alive()
    assert Mixtures.asked == []  # it waits
    process.kill()
    assert process.wait(60) != 0
    folder, whole = lab.folder(lab.baseline()), trained.folder(trained.baseline())
    asking.join(60)
    assert not asking.is_alive()
    assert "held by another process, waiting" in capsys.readouterr().out
    assert 1 <= steps_asked()[0] <= 7  # from the checkpoint, not from the start
    assert steps_asked() == list(range(steps_asked()[0], STEPS))
    for name in ("model.safetensors", "history.csv", "config.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert not (folder / CHECKPOINT).exists()


# --- scores ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def scored(monkeypatch) -> list[int]:
    """Scores that are known functions of the waveform; how many clips were scored, a call each."""
    calls = []

    def score(enhanced, clips, workers=None, description=""):
        calls.append(len(clips))
        power = [float(np.mean(np.square(waveform))) for waveform in enhanced]
        columns = {metric: [(k + 1) * value for value in power] for k, metric in enumerate(quality.METRICS)}
        return pd.DataFrame({"clip": [clip.name for clip in clips], **columns})

    monkeypatch.setattr(quality, "score_clips", score)
    return calls


def test_a_network_is_scored_once(trained, scored):
    run = trained.untrained("CRUSE16")
    first, again = trained.scores(run), Laboratory(trained.settings).scores(run)
    assert scored == [3]
    pd.testing.assert_frame_equal(first, again)
    powers = [np.mean(np.square(enhance(trained.load(run), clip.noisy))) for clip in trained.clips]
    assert first["dnsmos_sig"].tolist() == pytest.approx(powers, rel=1e-5)
    assert first["clip"].astype(int).tolist() == [0, 1, 2]


def test_a_form_is_scored_once_and_apart_from_the_others(trained, scored):
    """The exact form has the scores of the network itself, int8 nearly; a run's own scores stay as they are."""
    run = trained.untrained("P.500")
    plain = trained.scores(run)
    exact, int8, again = (trained.scores(run, form=form) for form in ("exact", "int8", "int8"))
    assert scored == [3, 3, 3]
    pd.testing.assert_frame_equal(int8, again)
    pd.testing.assert_frame_equal(plain, exact, rtol=1e-4)
    assert len({path.name for path in trained.train(run).glob("scores-*")}) == 3


def test_the_first_clips_only(trained, scored):
    run = trained.untrained("CRUSE32")
    some, again = trained.scores(run, first_clips=2), trained.scores(run, first_clips=2)
    assert scored == [2]
    pd.testing.assert_frame_equal(some, again)
    pd.testing.assert_frame_equal(some, trained.scores(run).iloc[:2])


@pytest.mark.parametrize("samples", [1600, 1601, 1])
def test_a_waveform_through_a_streaming_file_is_that_of_the_network(trained, samples):
    run = trained.untrained("P.500")
    noisy = np.random.default_rng(0).normal(scale=0.1, size=samples).astype(np.float32)
    streamed = experiments.enhance_streaming(trained.streaming_file(run, "exact"), noisy)
    np.testing.assert_allclose(streamed, enhance(trained.load(run), noisy), atol=1e-5)


def test_noisy_and_clean_clips_are_scored_once_too(lab, scored):
    for _ in range(2):
        noisy, clean = lab.noisy_scores(), lab.clean_scores()
    assert scored == [3, 3]
    assert {clip.speaker for clip in lab.clips} == {"test-0", "test-1", "test-2"}
    assert noisy["speaker"].tolist() == clean["speaker"].tolist() == [clip.speaker for clip in lab.clips]
    for table, waveforms in ((noisy, [c.noisy for c in lab.clips]), (clean, [c.clean for c in lab.clips])):
        assert table["dnsmos_bak"].tolist() == pytest.approx([2 * np.mean(np.square(w)) for w in waveforms], rel=1e-5)


def test_other_clips_are_scored_anew(lab, scored):
    lab.noisy_scores()
    Laboratory(settings(lab.outputs, clip_seconds=11.0)).noisy_scores()
    assert scored == [3, 3]


def test_studies_of_any_seed_are_scored_on_the_same_clips(lab, tmp_path):
    other = Laboratory(settings(tmp_path, seed=5))
    for one, same in zip(lab.clips, other.clips, strict=True):
        np.testing.assert_array_equal(one.noisy, same.noisy)


def test_clips_with_another_reference_are_other_clips():
    (clip,) = clips("test", 1, 10.0, 0)
    other = dataclasses.replace(clip, clean=-clip.clean)
    assert scores_name([clip]) != scores_name([other])
    assert scores_name([clip]) == scores_name([dataclasses.replace(clip, clean=clip.clean.copy())])


def test_the_table_of_quality(tmp_path, scored):
    lab = Laboratory(settings(tmp_path, seed_count=2))
    make = {name: lambda seed, name=name: Run(TINY[name], seed=seed) for name in ("CRUSE32", "P.500")}
    table = lab.quality_table(make, reference="CRUSE32").set_index("configuration")
    assert list(table.index) == ["CRUSE32", "P.500"]
    assert list(table.columns)[:3] == ["clips", "seeds", "speakers"]
    for metric in quality.METRICS:
        for name in (metric, "delta_" + metric.removeprefix("dnsmos_")):
            assert {name, f"{name}_ci_low", f"{name}_ci_high"} <= set(table)
    assert (table["clips"] == 3).all()
    assert (table["speakers"] == 3).all()
    assert {table[count].dtype.kind for count in ("clips", "seeds", "speakers")} == {"i"}  # not 3.0
    assert (table["seeds"] == 2).all()
    for name, row in table.iterrows():
        mean = np.mean([lab.scores(make[name](seed))["dnsmos_ovrl"].mean() for seed in (0, 1)])
        assert row["dnsmos_ovrl"] == pytest.approx(mean)
        assert row["dnsmos_ovrl_ci_low"] <= mean <= row["dnsmos_ovrl_ci_high"]
        assert row["delta_ovrl"] == pytest.approx(mean - table.loc["CRUSE32", "dnsmos_ovrl"])
    assert table.loc["CRUSE32", ["delta_ovrl_ci_low", "delta_ovrl_ci_high"]].tolist() == [
        0,
        0,
    ]  # a model against itself


def test_each_seed_is_paired_with_the_reference_of_its_own(tmp_path, scored):
    lab = Laboratory(settings(tmp_path, seed=3, seed_count=2))
    make = {name: lambda seed, name=name: Run(TINY[name], seed=seed) for name in ("CRUSE32", "P.500")}
    table = lab.quality_by_seed(make, reference="CRUSE32")
    assert list(zip(table["configuration"], table["seed"], strict=True)) == [
        ("CRUSE32", 3), ("P.500", 3), ("CRUSE32", 4), ("P.500", 4),
    ]  # fmt: skip
    for seed, own in table.groupby("seed"):
        of, base = (lab.scores(make[name](seed))["dnsmos_ovrl"] for name in ("P.500", "CRUSE32"))
        assert own["delta_ovrl"].tolist() == pytest.approx([0, np.mean(of - base)])
    both = lab.quality_table(make, reference="CRUSE32").set_index("configuration")
    over_seeds = table.groupby("configuration")["delta_ovrl"].mean()
    assert over_seeds["P.500"] == pytest.approx(both.loc["P.500", "delta_ovrl"])


def test_the_table_of_quality_against_the_noisy_clips_or_nothing(lab, scored):
    make = {"P.500": lambda seed: Run(TINY["P.500"], seed=seed)}
    against = lab.quality_table(make, against_noisy=True).iloc[0]
    noisy = lab.noisy_scores()["dnsmos_sig"].mean()
    assert against["delta_sig"] == pytest.approx(against["dnsmos_sig"] - noisy)
    assert not [name for name in lab.quality_table(make) if name.startswith("delta")]


SHIFTS = {"random": 0, "seeded": 3}


def test_ways_to_each_configuration_are_paired_with_one_of_them(lab, scored):
    """Each pair is what `quality_table` says of it alone."""
    ways = {way: lambda name, seed, shift=shift: Run(TINY[name], seed=seed + shift) for way, shift in SHIFTS.items()}
    table = lab.paired_tables(["CRUSE32", "P.500"], ways, reference="random", label="way")
    assert table[["configuration", "way"]].values.tolist() == [
        ["CRUSE32", "random"], ["CRUSE32", "seeded"], ["P.500", "random"], ["P.500", "seeded"]
    ]  # fmt: skip
    for name, pair in table.groupby("configuration"):
        alone = lab.quality_table({way: partial(make, name) for way, make in ways.items()}, "random", label="way")
        pd.testing.assert_frame_equal(pair.drop(columns="configuration").reset_index(drop=True), alone)
    assert (table.loc[table["way"] == "random", "delta_ovrl"] == 0).all()


def test_scores_by_clip_tell_all_networks_of_a_study_apart(lab, scored, monkeypatch):
    """Each table can be made from them again; a network asked for twice is there once, the noisy clips come last."""
    mixed = [dataclasses.replace(clip, snr_db=snr_db) for clip, snr_db in zip(lab.clips, (5, 0, -5), strict=True)]
    monkeypatch.setattr(lab, "clips", mixed)
    makes = [
        lab.baseline, partial(lab.baseline, "CRUSE16"), partial(lab.direct, "P.500"), partial(lab.pruned, "P.500"),
        partial(lab.fine_tuned, "P.500"), partial(lab.fine_tuned, "P.500", learning_rate=1e-5),
        partial(lab.sparse, 0.5, False), partial(lab.sparse, 0.5, True), partial(lab.sparse, 0.0, True),
    ]  # fmt: skip
    runs = [make(seed=seed) for seed in (0, 1) for make in makes]
    table = lab.scores_by_clip([*runs, *runs[:3]])
    about = list(experiments.runs.identity(runs[0]))
    assert len(table) == (len(runs) + 2) * 3
    assert table[about].drop_duplicates().shape[0] == len(runs) + 2
    assert table["configuration"].tolist()[-6:] == ["noisy"] * 3 + ["clean"] * 3
    for run, (_, part) in zip(runs, table.groupby(np.arange(len(table)) // 3), strict=False):
        assert part.iloc[0][about].to_dict() == experiments.runs.identity(run)
        pd.testing.assert_frame_equal(
            part[["clip", *quality.METRICS]].reset_index(drop=True),
            lab.scores(run)[["clip", *quality.METRICS]],
            atol=1e-6,
        )
        assert part["snr_db"].tolist() == [5, 0, -5]
        assert part["speaker"].tolist() == ["test-0", "test-1", "test-2"]


def test_what_a_network_is_in_a_table_of_scores(lab):
    """P.500 of ten steps and four more after the cut, at another rate; what is only cut has no steps of its own."""
    tuned = experiments.runs.identity(lab.fine_tuned("P.500", 7, learning_rate=1e-4))
    assert tuned == {
        "configuration": "P.500", "started_from": "CRUSE32", "sparsity": 0.0, "learning_rate": 1e-4,
        "steps": TUNING_STEPS, "total_steps": STEPS + TUNING_STEPS, "seed": 7,
    }  # fmt: skip
    assert experiments.runs.identity(lab.baseline())["started_from"] == ""
    cut = experiments.runs.identity(lab.sparse(0.5, False))
    assert (cut["sparsity"], cut["steps"], cut["total_steps"]) == (0.5, 0, STEPS)


def test_the_first_column_of_quality_is_called_as_asked(lab, scored):
    make = {0.5: lambda seed: Run(TINY["P.500"], seed=seed)}
    for table in (lab.quality_table(make, label="factor"), lab.quality_by_seed(make, 0.5, label="factor")):
        assert table.columns[0] == "factor"
        assert table["factor"].tolist() == [0.5]
        assert not {"configuration", "model"} & set(table)


# --- speed and results ----------------------------------------------------------------------------------------------


def constant_times(milliseconds: float, rounds: int) -> np.ndarray:
    """Nanoseconds (rounds, 1) of a model that always takes as long."""
    return np.full((rounds, 1), milliseconds * 1e6)


def test_latency_is_measured_once_per_set_of_networks_warm_and_cold(lab, monkeypatch):
    """Back to back, and with twice the last-level cache evicted on a tenth of the frames, joined by model."""
    written, measured = [], []

    def write(model, path, form):
        written.append(path.name)
        path.write_bytes(b"network")
        return path

    def measure(files, evict_mb=0.0, **protocol):
        measured.append(protocol | {"evict_mb": evict_mb})
        names = list(files) if not evict_mb else list(files)[::-1]  # rows are joined by name, not by place
        return {name: constant_times(len(name) + evict_mb, protocol["rounds"]) for name in names}

    monkeypatch.setattr(export, "export_streaming", write)
    monkeypatch.setattr(profiling, "measure_times", measure)
    monkeypatch.setattr(experiments.streaming, "last_level_cache_mb", lambda: 8.0)
    machine = profiling.timing_conditions() | {"load_1_min": 0.25}
    monkeypatch.setattr(profiling, "timing_conditions", lambda: machine)
    lab = Laboratory(settings(lab.outputs, latency_rounds=30, frames_per_round=50))
    runs = {name: lab.untrained(name) for name in ("CRUSE32", "P.500")}
    first, again = lab.latency(runs), Laboratory(lab.settings).latency(runs)
    pd.testing.assert_frame_equal(first, again)
    assert len(written) == 2
    assert [(call["rounds"], call["frames_per_round"], call["evict_mb"]) for call in measured] == [
        (30, 50, 0), (30, 5, 16)
    ]  # fmt: skip
    assert first["latency_ms"].tolist() == [7, 5]
    assert first["cold_latency_ms"].tolist() == [7 + 16, 5 + 16]
    assert first["cold_evicted_mb"].tolist() == [16, 16]
    assert first.loc[0, list(CONDITIONS)].to_dict() == {what: machine[what] for what in CONDITIONS}  # as it measured
    lab.latency({"CRUSE32": runs["CRUSE32"]})
    Laboratory(settings(lab.outputs, latency_rounds=31)).latency(runs)
    assert (len(written), len(measured)) == (2, 6)
    assert lab.latency(dict(reversed(runs.items())))["model"].tolist() == ["P.500", "CRUSE32"]  # P.500 is at 1x now
    monkeypatch.setattr(profiling, "timing_conditions", lambda: machine | {"onnxruntime": "another"})
    lab.latency(runs)
    assert (len(written), len(measured)) == (2, 10)


def test_any_two_networks_can_be_compared_by_the_rounds_that_were_kept(lab, monkeypatch):
    """The table's medians and speedups are those of the kept rounds; a lost file of rounds is measured anew."""
    measured = []

    def measure(files, evict_mb=0.0, **protocol):
        measured.append(evict_mb)
        generator = np.random.default_rng(len(measured))
        shape = (protocol["rounds"], protocol["frames_per_round"])
        return {name: generator.integers(10**5, 10**6, shape) for name in [*files, profiling.SELF_CHECK]}

    monkeypatch.setattr(profiling, "measure_times", measure)
    runs = {name: lab.untrained(name) for name in ("CRUSE32", "P.500")}
    table, rounds = lab.latency(runs).set_index("model"), lab.latency_rounds(runs)
    assert len(measured) == 2
    assert rounds["round"].tolist() == [*range(30)] * 3 * 2
    for way, prefix in {"back to back": "", "cold": "cold_"}.items():
        kept = rounds[rounds["way"] == way].pivot(index="round", columns="model", values="median_ms")
        assert kept.median().loc[table.index].tolist() == pytest.approx(table[f"{prefix}latency_ms"].tolist(), rel=1e-9)
        ratios = (kept["CRUSE32"] / kept["P.500"]).median()
        assert ratios == pytest.approx(table.loc["P.500", f"{prefix}speedup"], rel=1e-9)
    (path,) = lab.outputs.glob("latency/*-rounds.csv")
    path.unlink()
    assert not lab.latency_rounds(runs).equals(rounds)
    assert len(measured) == 4


def test_frames_of_the_training_material(lab):
    """Three stand-in crops of a tenth of 1.5 s: T = 16 frames of 160 samples each; not what is tested or validated."""
    frames = lab.training_frames(crops=3, seconds=1.5)
    assert frames.shape == (3 * 16, 161)
    assert [split for split, _ in Mixtures.asked] == ["train"]
    np.testing.assert_array_equal(frames, lab.training_frames(crops=3, seconds=1.5))


def test_forms_are_measured_together_and_paced(lab, monkeypatch):
    """Every pair has its file; the third measurement waits 10 ms between frames; other rounds are measured anew."""
    measured = []

    def measure(files, evict_mb=0.0, pace_ms=0.0, **protocol):
        forms = {name: json.loads(form_of(path)) for name, path in files.items()}
        measured.append((forms, evict_mb > 0, pace_ms, protocol["rounds"]))
        return {name: constant_times(1 + pace_ms, protocol["rounds"]) for name in files}

    def form_of(path):
        facts = {prop.key: prop.value for prop in profiling.load(path).metadata_props}
        return json.dumps([facts["form"], facts["widths"]])

    monkeypatch.setattr(profiling, "measure_times", measure)
    run, small = lab.untrained("CRUSE32"), lab.untrained("P.500")
    models = {"CRUSE32": run, "CRUSE32 int8": (run, "int8"), "P.500 exact": (small, "exact")}
    first, again = lab.latency(models, paced_rounds=4), lab.latency(models, paced_rounds=4)
    pd.testing.assert_frame_equal(first, again)
    forms = {
        "CRUSE32": ["plain", "[4, 4, 8, 8]"],
        "CRUSE32 int8": ["int8", "[4, 4, 8, 8]"],
        "P.500 exact": ["exact", "[4, 4, 4, 4]"],
    }
    assert measured == [(forms, False, 0, 30), (forms, True, 0, 30), (forms, False, 10, 4)]
    assert first["paced_latency_ms"].tolist() == [11] * 3
    assert lab.latency_rounds(models, paced_rounds=4)["way"].value_counts().to_dict() == {
        "back to back": 3 * 30, "cold": 3 * 30, "paced": 3 * 4
    }  # fmt: skip
    lab.latency(models, paced_rounds=5)
    assert not [column for column in lab.latency(models) if column.startswith("paced")]
    assert len(measured) == 3 + 3 + 2


def test_the_digest_of_a_package_covers_all_its_files(tmp_path):
    """So that a changed file of the export never finds an old streaming file."""
    package, module = tmp_path / "package", tmp_path / "module.py"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("x = 1")
    module.write_text("x = 1")
    digests = []
    for changed in (None, package / "part.py", package / "__init__.py", module):
        if changed:
            changed.write_text("x = 2")
        named = [SimpleNamespace(__file__=str(file)) for file in (package / "__init__.py", module)]
        digests.append([experiments.source_digest(each) for each in named])
    of_package, of_module = zip(*digests, strict=True)
    assert [len(set(of_package)), len(set(of_module))] == [3, 2]
    assert of_package[2] == of_package[3]


@pytest.mark.parametrize("module", [profiling.latency, intervals])
def test_latencies_are_measured_again_when_what_makes_their_numbers_changes(module, tmp_path, monkeypatch):
    models, measured = {"a": tmp_path / "a.onnx"}, []
    table = pd.DataFrame({"model": ["a"]} | {name: [0] for name in experiments.streaming.CONDITIONS})
    rounds = pd.DataFrame({"model": ["a"]})
    monkeypatch.setattr(
        experiments.streaming, "measure_everywhere", lambda *given: measured.append(1) or (table, rounds)
    )
    digest = profiling.latency.code_digest
    for changed in (False, False, True):
        with monkeypatch.context() as patch:
            if changed:
                other = lambda paths: digest(paths) + "changed" * (Path(module.__file__) in paths)  # noqa: E731
                patch.setattr(profiling.latency, "code_digest", other)
            experiments.streaming.measured_once(tmp_path, models, {})
    assert len(measured) == 2


def test_a_saved_result_is_read_by_another_notebook(lab):
    table = pd.DataFrame({"model": ["CRUSE32"], "latency_ms": [0.1 + 0.2]})
    assert lab.save("table_2", table) is table
    pd.testing.assert_frame_equal(Laboratory(lab.settings).result("table_2"), table)
    assert (lab.outputs / "results" / "table_2.csv").exists()


def test_a_result_of_an_earlier_run_can_be_discarded(lab):
    lab.save("recordings", pd.DataFrame({"a": [1]}))
    lab.discard("recordings")
    lab.discard("recordings")  # nothing is there to discard
    assert not (lab.outputs / "results" / "recordings.csv").exists()


def test_a_result_that_is_not_there_says_what_to_do(lab):
    with pytest.raises(MisuseError, match=r"table_9\.csv is not there yet: run the notebook"):
        lab.result("table_9")


# --- the real thing -------------------------------------------------------------------------------------------------


@pytest.fixture
def real():
    """Keeps the stand-ins away."""


@pytest.mark.slow
def test_with_embedded_data_and_real_scores(real, tmp_path):
    sizes = {"speech_minutes": 1.0, "noise_minutes": 1.0, "baseline_steps": 2, "batch_size": 2, "crop_seconds": 0.5}
    lab = Laboratory(Settings(outputs=str(tmp_path), test_clips=2, **sizes))
    run = dataclasses.replace(lab.baseline(), widths=(4, 4, 8, 8))
    assert np.isfinite(lab.history(run)["loss"]).all()
    assert np.isfinite(lab.summary(run)["validation_loss"])
    scores = lab.scores(run)
    assert scores[["dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"]].to_numpy().min() > 0.9  # opinions start at 1
    table = lab.quality_table({"tiny": lambda seed: run})
    assert table["dnsmos_ovrl"].item() == pytest.approx(scores["dnsmos_ovrl"].mean())
    assert len(lab.clips[0].noisy) == 160_000
    assert {clip.speaker for clip in lab.clips} <= set(lab.corpora.test.speech.by_source)


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize(
    ("name", "read"),
    [("model.safetensors", "load"), ("history.csv", "history"), ("summary.json", "summary")],
)
def test_a_damaged_file_of_a_run_names_the_folder_to_delete(lab, name, read, share):
    run = lab.baseline()
    path = lab.train(run) / name
    getattr(lab, read)(run)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(MisuseError, match=f"{name} is damaged or gone .*: delete {path.parent} and start again"):
        getattr(lab, read)(run)
    path.unlink()
    with pytest.raises(MisuseError, match=f"delete {path.parent}"):
        getattr(lab, read)(run)


@pytest.mark.parametrize("keep", [0, 40, 60, 75, 89])
def test_scores_cut_short_are_not_believed(lab, monkeypatch, keep):
    def scored(enhanced, clips, description):
        return pd.DataFrame({"clip": [clip.name for clip in clips], "dnsmos_ovrl": 1.2345678901, "si_sdr_db": 0.1})

    monkeypatch.setattr(quality, "score_clips", scored)
    lab.noisy_scores()
    (path,) = (lab.outputs / "runs").glob("*/scores-*.csv")
    content = path.read_bytes()
    assert keep < len(content)
    path.write_bytes(content[:keep])
    with pytest.raises(MisuseError, match=f"damaged or gone .*: delete {path} and start again"):
        lab.noisy_scores()
    path.unlink()
    assert len(lab.noisy_scores()) == 3


@pytest.mark.parametrize("name", ["NA", "null", "007"])
def test_scores_of_clips_with_any_name_are_found_again(tmp_path, name):
    clips = [data.Clip(name, None, None, 0.0, -20.0, name, "")]
    kept = pd.DataFrame({"clip": [name], "dnsmos_ovrl": [2.5], "si_sdr_db": [np.nan]})
    experiments.files.write_csv(tmp_path / "scores.csv", kept)
    found = experiments.files.read_scores(tmp_path / "scores.csv", clips)  # as kept before speakers were
    pd.testing.assert_frame_equal(found, kept.assign(speaker=name))


class Hostile:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_holds_more_than_tensors_is_not_executed(lab, tmp_path):
    run = lab.baseline()
    lab.folder(run).mkdir(parents=True)
    torch.save({"model": {}, "optimiser": {}, "history": Hostile(tmp_path / "executed")}, lab.folder(run) / CHECKPOINT)
    with pytest.raises(MisuseError, match=f"{CHECKPOINT} is damaged: delete it"):
        lab.train(run)
    assert not (tmp_path / "executed").exists()


def test_a_damaged_checkpoint_says_what_to_delete(lab):
    run = lab.baseline()
    lab.folder(run).mkdir(parents=True)
    (lab.folder(run) / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(MisuseError, match=f"{CHECKPOINT} is damaged: delete it"):
        lab.train(run)
    (lab.folder(run) / CHECKPOINT).unlink()
    assert len(lab.history(run)) == STEPS


def test_long_recordings_go_frame_by_frame_and_come_back_in_their_order(monkeypatch):
    monkeypatch.setattr(experiments.streaming, "LONG_SECONDS", 0.25)
    streamed, stream = [], experiments.streaming.enhance_streaming
    monkeypatch.setattr(
        experiments.streaming, "enhance_streaming", lambda path, one: streamed.append(len(one)) or stream(path, one)
    )
    torch.manual_seed(0)
    model, rng = Cruse((4, 4, 8, 8), look_ahead=1).eval(), np.random.default_rng(0)
    noisy = [0.1 * rng.standard_normal(samples).astype(np.float32) for samples in (3000, 5000, 4000, 4001)]
    enhanced = experiments.enhance_clips(model, noisy)
    assert streamed == [5000, 4001]
    for one, other in zip(enhanced, map(partial(enhance, model), noisy), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_every_setting_of_a_training_reaches_its_run_its_batches_and_its_recipe(tmp_path, monkeypatch):
    given = {
        "learning_rate": 0.02, "weight_decay": 0.3, "batch_size": 3, "crop_seconds": 1.5, "speed_change": 0.2,
        "seed": 7, "look_ahead": 1,
    }  # fmt: skip
    lab = Laboratory(settings(tmp_path, loss="weighted", **given))
    for run in (lab.baseline(), lab.direct("P.500"), lab.fine_tuned("P.500"), lab.sparse(0.5, True)):
        assert {name: getattr(run, name) for name in given} == given
        assert run.loss == LOSSES["weighted"]
    asked, recipes, train = [], [], experiments.training.train

    class Noted(Mixtures):
        def __init__(self, split, seed, batch_size, crop_seconds, device=None, speed_change=0.0):
            asked.append((split, seed, batch_size, crop_seconds, speed_change))
            super().__init__(split, seed, batch_size, crop_seconds)

    monkeypatch.setattr(data, "Mixtures", Noted)
    monkeypatch.setattr(
        experiments.training,
        "train",
        lambda m, b, recipe, *more, **words: recipes.append(recipe) or train(m, b, recipe, *more, **words),
    )
    lab.train(lab.baseline())
    assert asked == [("train", 7, 3, 1.5, 0.2), ("held out", 0, 3, 1.5, 0.0)]  # validated on sound as it is
    assert recipes == [training.Recipe(STEPS, 0.02, 0.3, loss=LOSSES["weighted"])]
