"""Who imports whom, read from the source; that the library starts quickly."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dnslib

PACKAGE = Path(__file__).resolve().parents[1] / "dnslib"
LAYERS = [  # a module may import modules of earlier layers only: no sideways, no circles
    {"digests", "errors", "machine", "sampling"},
    {"intervals", "paths", "stft", "paper", "progress"},
    {"plots", "display"},
    {"locks", "processes"},
    {"settings", "gru", "loss", "debian", "ideal"},
    {"model", "claims"},
    {"pruning", "export", "published"},
    {"training", "quality", "data", "profiling", "regrouping"},
    {
        "deployment",
        "exchange",
        "public_denoisers",
        "limits",
        "sparse_products",
        "plain_training",
        "cluster",
        "networks",
    },
    {"experiments", "denoiser", "benchmark"},
    {"study", "enhancing", "search", "soak"},
    {"__main__"},
]
MODULES = sorted({path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")})


def imported(module: str) -> set[str]:
    """Modules of dnslib that a module, or a package with all its files, imports anywhere."""
    files = (
        [PACKAGE / f"{module}.py"] if (PACKAGE / f"{module}.py").exists() else list((PACKAGE / module).rglob("*.py"))
    )
    names = set().union(*map(names_imported, files))
    inner = {name.split(".")[1] for name in names if name.startswith("dnslib.")}
    return inner & set(MODULES) - {module}


def names_imported(path: Path, for_annotations: bool = True) -> set[str]:
    """All that a file imports anywhere, ``a.b`` for ``from a import b``; with or without ``if TYPE_CHECKING``."""
    found, nodes = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    for node in nodes:  # which grows
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_annotations:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        nodes += ast.iter_child_nodes(node)
    return found


def layer(module: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if module in names)


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__init__"])
def test_imports_point_one_way(module):
    assert any(module in names for names in LAYERS), f"say in LAYERS where {module} belongs"
    wrong = {other for other in imported(module) if layer(other) >= layer(module)}
    assert wrong == set()


def test_files_import_in_no_circle():
    """Inside packages too; an import for annotations only, under ``if TYPE_CHECKING``, is none."""
    names = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for path, name in names.items()}
    used = {}
    for file, path in files.items():
        names = names_imported(path, for_annotations=False)
        used[file] = {name if name in files else name.rpartition(".")[0] for name in names} & set(files) - {file}
    assert "dnslib.experiments.runs" in used["dnslib.experiments.laboratory"]
    order = list(TopologicalSorter(used).static_order())  # raises CycleError, which names the circle
    assert order.index("dnslib.errors") < order.index("dnslib.__main__")


def test_the_list_command_needs_no_torch():
    code = "import sys, dnslib.__main__; print([m for m in ('torch', 'pandas', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_that_makes_speech_and_noise_needs_no_torch():
    code = "import sys; from dnslib.data import noise, rooms, speech, workers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_names_are_imported_when_asked_for():
    assert dnslib.CONFIGURATIONS["CRUSE32"] == (32, 64, 128, 256)
    assert dnslib.Settings().seed == 0
    assert "CONFIGURATIONS" in dir(dnslib)
    with pytest.raises(AttributeError, match="no_such_name"):
        dnslib.no_such_name  # noqa: B018


def test_every_module_is_an_attribute_of_the_package():
    hidden = {"__init__", "__main__", "weights"}
    assert {name for name in MODULES if name not in hidden} == set(dnslib._MODULES)
