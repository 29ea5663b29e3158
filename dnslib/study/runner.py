"""Execute notebooks through papermill, one after the other: validate, run to a temporary file, judge, sign, rename.

Papermill alone is not enough: it starts a kernel before it looks at a value, and marks a cell that timed out or a
kernel that died as completed, so the outputs are judged here.
"""

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from dnslib.errors import MisuseError
from dnslib.locks import HELD_FOLDER, LOCK, exclusive, held_by
from dnslib.machine import environment
from dnslib.processes import search_path
from dnslib.progress import STATUS_FILE, duration
from dnslib.study import provenance
from dnslib.study import state as states
from dnslib.study.console import Console
from dnslib.study.notebooks import Notebook, in_order

START_SECONDS = 300  # that a kernel may take to start, on a loaded machine or a slow disk
CLOCK_STEP_NS = 20_000_000  # times of change come from a coarser clock, which may lag this far behind
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class StudyError(Exception):
    """A notebook failed; the message names notebook, cell and error in one line. Exit status 1."""


def run(notebooks: Sequence[Notebook], values: dict[str, dict], outputs: Path, data: str, console: Console) -> int:
    """Run what is not up to date, in order; returns how many notebooks ran. Call it inside `locked`.

    ``values`` are those of `parameters.plan`, ``data`` the checked folder of recordings or "". Raises StudyError at the
    first failure; what finished before stays.
    """
    ordered, data_digest, ran = in_order(notebooks), states.folder_digest(data), 0
    expected = [states.fingerprint(one, values[one.name], outputs, data_digest) for one in ordered]
    before = [states.state(one, print_, outputs) for one, print_ in zip(ordered, expected, strict=True)]
    console.plan(sum(not one.fresh for one in before), len(before))
    for index, notebook in enumerate(ordered):
        fingerprint = states.fingerprint(notebook, values[notebook.name], outputs, data_digest)  # inputs may be new
        now = states.state(notebook, fingerprint, outputs)
        label = f"[{index + 1}/{len(ordered)}] {notebook.name}"
        if now.fresh:
            console.line(f"{label}  up to date")
            continue
        later = [one.seconds for one in before[index + 1 :] if not one.fresh]
        with console.notebook(label, now.seconds, None if None in later else sum(later)) as status_file:
            seconds = execute(notebook, values[notebook.name], fingerprint, outputs, status_file)
        console.line(f"{label}  done in {duration(seconds)}")
        ran += 1
    return ran


def execute(
    notebook: Notebook, values: dict, fingerprint: dict[str, str], outputs: Path, status_file: Path | None = None
) -> float:
    """Execute one notebook into ``outputs/<name>.ipynb``; returns the seconds it took. Raises StudyError."""
    import nbformat

    target, failed = outputs / f"{notebook.name}.ipynb", outputs / f"{notebook.name}.failed.ipynb"
    temporary = outputs / f".{notebook.name}.running.ipynb"  # the lock on the folder makes it ours
    start, began_ns, code = time.monotonic(), time.time_ns(), provenance.code()
    with environment(of_kernels(outputs, status_file)):
        died = run_kernel(notebook.path, temporary, values)
    seconds = time.monotonic() - start
    executed = nbformat.read(temporary, as_version=4)
    missing = [name for name in notebook.writes if not _written_since(began_ns, outputs / name)]
    problem = judge(executed, died) or (f"it did not write {missing[0]}" if missing else "")
    if problem:
        os.replace(temporary, failed)
        if problem.startswith("MisuseError: "):
            raise MisuseError(f"{problem.removeprefix('MisuseError: ')} (notebook {notebook.name})")
        raise StudyError(f"notebook {notebook.name}, {problem}; see {failed}")
    executed.metadata[states.KEY] = {
        "fingerprint": fingerprint,
        "results": states.results(notebook, outputs),
        "parameters": json.loads(json.dumps(values)),
        **code,
        **provenance.processor(),
        "seconds": round(seconds, 1),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    sign(executed)
    nbformat.write(executed, temporary)
    os.replace(temporary, target)
    failed.unlink(missing_ok=True)
    return seconds


def run_kernel(source: Path, target: Path, values: dict) -> str:
    """Execute a notebook's file into another one; returns why the kernel died, "" where it did not.

    Errors of cells are among the outputs.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            source,
            target,
            parameters=values,
            kernel_name="python3",
            language="python",
            cwd=source.parent,  # as in JupyterLab
            progress_bar=False,
            kernel_manager_class=own_kernel_manager(),
            extra_arguments=["--log-level=CRITICAL"],
            raise_on_iopub_timeout=False,
            start_timeout=START_SECONDS,
            shutdown_kernel="immediate",  # all is written: PyTorch alone takes two seconds to exit
        )
    except PapermillExecutionError:
        return ""
    except DeadKernelError:
        return "DeadKernelError: the kernel died; too little memory is the usual reason"
    except (RuntimeError, TimeoutError) as error:  # a kernel that did not start
        return f"{type(error).__name__}: {error}"
    return ""


def _written_since(when_ns: int, path: Path) -> bool:
    """Whether a file was written since ``when_ns``: one that an earlier run has left is no result of this one."""
    return path.is_file() and path.stat().st_mtime_ns >= when_ns - CLOCK_STEP_NS


def judge(executed, died: str = "") -> str:
    """What is wrong with an executed notebook, in one line; empty when nothing is: errors, cells not executed."""
    if died:  # in the last cell that was started; whether it got its number is a matter of luck
        begun = [cell for cell in executed.cells if cell.metadata.get("papermill", {}).get("start_time")]
        return f"cell `{first_line(begun[-1].source)}`: {died}" if begun else f"before the first cell: {died}"
    for cell in executed.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        meant = "raises-exception" in cell.metadata.get("tags", ())
        error = next((output for output in cell.outputs if output.output_type == "error"), None)
        where = f"cell [{cell.execution_count or '*'}] `{first_line(cell.source)}`"
        if error and not meant:
            text = ANSI.sub("", f"{error.ename}: {error.evalue}").strip()
            return text if error.ename == "MisuseError" else f"{where}: {' '.join(text.split())[:500]}"
        if cell.execution_count is None:
            return f"{where}: it was not executed"
    return ""


def first_line(source: str) -> str:
    """The first line of code that is no comment, shortened."""
    lines = [line.strip() for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return (lines or [""])[0][:60]


def own_kernel_manager() -> type:
    """Kernel manager that starts this interpreter, whatever "python3" means in the user's Jupyter folders."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class OwnInterpreter(AsyncKernelManager):
        def _kernel_spec_manager_default(self):
            return KernelSpecManager(kernel_dirs=[])  # without folders to search, only the native kernel is left

    return OwnInterpreter


def of_kernels(outputs: Path, status_file: Path | None) -> dict[str, str]:
    """Environment of the kernels: this checkout's dnslib comes first, the outputs folder that the runner holds is
    theirs to write to, and progress goes to the status file."""
    variables = {"PYTHONPATH": search_path(), "PYDEVD_DISABLE_FILE_VALIDATION": "1", HELD_FOLDER: str(outputs)}
    return variables | ({STATUS_FILE: str(status_file)} if status_file else {})


def sign(executed) -> None:
    """Mark the outputs as trusted, so that JupyterLab shows them; without a writable home this is left out."""
    from nbformat.sign import NotebookNotary

    with suppress(Exception):
        NotebookNotary().sign(executed)


@contextmanager
def locked(outputs: Path) -> Iterator[None]:
    """Hold the outputs folder. Raises MisuseError that says who holds it, or why it cannot be written to."""
    with ExitStack() as held:
        try:
            outputs.mkdir(parents=True, exist_ok=True)
            held.enter_context(exclusive(outputs / LOCK, lambda holder: held_by(outputs, holder)))
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise MisuseError(f"results cannot be written to {outputs}: {error.strerror.lower()}") from None
        yield
