"""Fixtures and helpers that several test files share."""

import os
import signal
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dnslib.data import added
from dnslib.data.rooms import LEAD
from dnslib.machine import environment, usable_cores
from dnslib.model import Cruse

WITH_KERNELS = ("test_notebooks", "test_study_runner")


def pytest_collection_modifyitems(items):
    """Side by side, by pytest-xdist, files with Jupyter kernels come first, as they take the longest."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.stem not in WITH_KERNELS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """As many as cores may be used, up to four: more would wait for the files with kernels."""
    return min(usable_cores(), 4)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Whole files go side by side, for their fixtures; those with kernels are one, as kernels race for ports."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = Path(nodeid.partition("::")[0]).stem
            return "kernels" if name in WITH_KERNELS else name

    return ByFile(config, log)


def biased(model: Cruse) -> Cruse:
    """The network with convolution biases as a trained one has them: fresh ones are 0, so losing them goes unseen."""
    for layer in (*model.encoders, *model.skips, *model.decoders):
        torch.nn.init.normal_(layer.bias, std=0.3)
    return model


@contextmanager
def signals_of_a_terminal():
    """A process started inside hears Ctrl-C and hang-up: it would inherit ignored ones, as of tests in the background
    or under nohup, but not caught ones."""
    ignored = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session", autouse=True)
def own_jupyter_folders(tmp_path_factory):
    """Signatures and histories of test notebooks do not go to the user's folders."""
    folder = tmp_path_factory.mktemp("jupyter")
    names = ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
    with environment({name: str(folder / name.lower()) for name in names}):
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small networks run ten times faster on one thread when the other cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def quick_rooms(monkeypatch):
    """One room a split, an echo, in place of simulated ones: no worker processes."""
    echo = np.eye(1, 60, LEAD, dtype=np.float32)[0]
    monkeypatch.setattr(added, "simulated_rooms", lambda workers, seed, split: [echo])


@pytest.fixture(scope="session")
def make_notebook():
    """Function that writes a small notebook: make_notebook(folder, name, parameters, *code, **about) -> path."""

    def make(folder: Path, name: str, parameters: str, *code: str, heading: str = "", **about) -> Path:
        cells = [
            new_markdown_cell(f"# {heading or name}"),
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            *(new_code_cell(source) for source in code),
        ]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata={"dnslib": about}), path)
        return path

    return make
