"""Fixtures and helpers that several test files share."""

import os
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dnslib.model import Cruse

WITH_KERNELS = ("test_notebooks", "test_study_runner")


def pytest_collection_modifyitems(items):
    """What runs side by side, by pytest-xdist, are whole files, for the sake of their fixtures.

    Those that start Jupyter kernels are one, as kernels race for ports, and come first, as they take the longest.
    """
    for item in items:
        group = "kernels" if item.path.stem in WITH_KERNELS else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.stem not in WITH_KERNELS)


def biased(model: Cruse) -> Cruse:
    """The network with convolution biases as a trained one has them: fresh ones are 0, so losing them goes unseen."""
    for layer in (*model.encoders, *model.skips, *model.decoders):
        torch.nn.init.normal_(layer.bias, std=0.3)
    return model


@pytest.fixture(scope="session", autouse=True)
def own_jupyter_folders(tmp_path_factory):
    """Signatures and histories of test notebooks do not go to the user's folders."""
    folder = tmp_path_factory.mktemp("jupyter")
    names = ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(folder / name.lower()) for name in names})
    yield
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small networks run ten times faster on one thread when the other cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
