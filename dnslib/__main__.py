"""The command line: ``python -m dnslib run | list | report | enhance | benchmark``.

Exit status: 0 done, 1 a notebook or a recording failed, 2 misuse (one line says what to change), 130 interrupted.
"""

import argparse
import errno
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":  # until `main` can report an interrupt in one line, Ctrl-C ends without a traceback
    INTERRUPTS = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # a background job of a script ignores it
    if INTERRUPTS:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

from dnslib import cluster
from dnslib.errors import INTERRUPTED, MISUSED, MisuseError
from dnslib.paths import PROJECT, expand, of_caller
from dnslib.progress import duration, make_room
from dnslib.study import parameters, provenance
from dnslib.study import state as states
from dnslib.study.console import Console
from dnslib.study.notebooks import discover, in_order, select
from dnslib.study.runner import StudyError, locked, run

KEPT = "what is finished is kept, the same command goes on from there"


class Parser(argparse.ArgumentParser):
    """Reports misuse in one line, without the usage text before it."""

    def error(self, message: str):
        raise MisuseError(f"{message} (python -m dnslib --help shows what is possible)")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a person can fix become one line on the error stream."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a stream that is not UTF-8 gets \xfc for ü, not an exception
            stream.reconfigure(errors="backslashreplace")
    try:
        if os.name == "nt":
            raise MisuseError("this needs Linux or macOS; on Windows, the Windows Subsystem for Linux")
        options = parser().parse_args(arguments)
        status = options.command(options) or 0
        sys.stdout.flush()  # here, where a BrokenPipeError is caught
        return status
    except MisuseError as error:
        return complain(error, MISUSED)
    except StudyError as error:
        return complain(f"the study failed: {error}", 1)
    except KeyboardInterrupt:
        return complain(f"interrupted; {KEPT}", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has closed it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return complain(explain(error), 1)


def a_path(text: str) -> Path:
    """A path of the command line."""
    return expand(a_text(text))


def a_text(text: str) -> str:
    """A text that is not empty: an empty one is most likely an unset variable, and must not mean the working folder or
    the embedded data."""
    if not text:
        raise argparse.ArgumentTypeError("a path is needed, not an empty text")
    return text


def complain(text: object, status: int) -> int:
    make_room()
    print(f"dnslib: {' '.join(str(text).split())}", file=sys.stderr)
    return status


def explain(error: OSError) -> str:
    """One line about what the system refused."""
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space and give the same command again: what is finished is kept"
    return f"{error.filename or 'a file'}: {(error.strerror or str(error)).lower()}"


def parser() -> Parser:
    top = Parser(
        prog="python -m dnslib", description="Run the study, see its state, build its report; use its networks."
    )
    commands = top.add_subparsers(required=True, metavar="run | list | report | enhance | benchmark")

    run_ = commands.add_parser("run", help="run notebooks in order; what is unchanged is not run again")
    run_.add_argument(
        "notebooks", nargs="*", metavar="NOTEBOOK", help="name, its beginning, or a section such as 05; all by default"
    )
    run_.set_defaults(command=run_command)
    list_ = commands.add_parser("list", help="notebooks, what each reproduces, its state, its last run")
    list_.set_defaults(command=list_command, notebooks=[])
    run_.add_argument("--scheduler", type=a_text, metavar="WHERE",
                      help="who trains and scores: local:N, tcp://HOST:PORT or a dask-jobqueue .yaml")  # fmt: skip
    for command in (run_, list_):
        command.add_argument("--data", type=a_text, metavar="DIR", help="folder with speech/, noise/ and rir/")
        command.add_argument("-p", dest="assignments", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                             help="a parameter of the notebooks; may be given several times")  # fmt: skip
    report = commands.add_parser("report", help="the HTML report from the executed notebooks")
    report.set_defaults(command=report_command, notebooks=[])
    for command in (run_, list_, report):
        command.add_argument("--profile", choices=("quick", "full"), default="quick", help="size of the study")
        command.add_argument("--outputs", type=a_path, metavar="DIR", help="folder of the results: outputs/PROFILE")
        command.add_argument("--notebooks-dir", dest="folder", type=a_path, default=PROJECT / "notebooks",
                             help=argparse.SUPPRESS)  # fmt: skip
    add_enhance(commands)
    add_benchmark(commands)
    return top


def add_enhance(commands) -> None:
    enhance = commands.add_parser("enhance", help="denoise recordings: a file or a folder of wav, flac, ogg, mp3")
    enhance.set_defaults(command=enhance_command)
    enhance.add_argument("noisy", type=a_path, metavar="NOISY", help="file or folder; never written to")
    enhance.add_argument("out", type=a_path, nargs="?", metavar="OUT",
                         help="file or folder: NAME.enhanced.wav or NAME.enhanced/ next to the input")  # fmt: skip
    enhance.add_argument("--model", default="P.500", metavar="MODEL",
                         help="named weights (default P.500), a streaming .onnx or a .safetensors file")  # fmt: skip
    enhance.add_argument("--precision", choices=("exact", "int8"),
                         help="of weights: exact by default; int8 is fast for large networks")  # fmt: skip
    enhance.add_argument("--overwrite", action="store_true", help="replace outputs that are there already")


def add_benchmark(commands) -> None:
    benchmark = commands.add_parser("benchmark", help="latency of streaming ONNX files, of this project or others")
    benchmark.set_defaults(command=benchmark_command)
    benchmark.add_argument(
        "models", type=a_path, nargs="+", metavar="MODEL.onnx", help="the first one is the reference"
    )
    benchmark.add_argument("--rounds", type=int, default=30, metavar="N", help="rounds, at least 2: 30")
    benchmark.add_argument("--frames", type=int, default=100, metavar="N", help="frames in a round: 100")
    benchmark.add_argument("--csv", type=a_path, metavar="FILE", help="write the table there too")


def run_command(options: argparse.Namespace) -> None:
    """Check everything, then run what is not up to date, then write provenance and report."""
    everything = discover(options.folder.absolute())
    chosen = select(everything, options.notebooks)
    data = parameters.data_folder(options.data)
    scheduler = cluster.check(absolute(options.scheduler))
    values = parameters.plan(chosen, options.profile, data, options.outputs, options.assignments, scheduler)
    outputs, console = parameters.outputs_folder(options.profile, options.outputs), Console()
    report = outputs / "report.html"
    with locked(outputs):
        try:
            run(chosen, values, outputs, data, console)
        except BaseException:  # a study that fails in the middle has results too
            with suppress(MisuseError):  # the first failure is the one to report
                note_provenance(everything, values, outputs, options.profile)
            raise
        executed = note_provenance(everything, values, outputs, options.profile)
        if older(report, [*(outputs / f"{name}.ipynb" for name in executed), provenance.place(outputs)]):
            write_report(everything, outputs, options.profile)
    console.line(f"report: {report}")


def note_provenance(notebooks, values: dict[str, dict], outputs: Path, profile: str) -> dict[str, str]:
    """Write the provenance if a notebook was executed since it was last written; returns what `finished` does."""
    executed = finished(notebooks, outputs)
    if executed and executed != provenance.finished(outputs):
        provenance.write(notebooks, values, outputs, profile)
    return executed


def finished(notebooks, outputs: Path) -> dict[str, str]:
    """When each notebook was last executed, by name; those that never were are left out."""
    runs = {notebook.name: states.last_run(outputs / f"{notebook.name}.ipynb") for notebook in notebooks}
    return {name: run["finished"] for name, run in runs.items() if run}


def older(path: Path, sources: list[Path]) -> bool:
    """Whether a file is missing or older than one of its sources, as after an interrupted run."""
    return not path.exists() or path.stat().st_mtime_ns < max(source.stat().st_mtime_ns for source in sources)


def absolute(scheduler: str | None) -> str:
    """The scheduler as named; a file is relative to the caller's folder, like --data and --outputs. Empty for none."""
    if not scheduler:
        return ""
    is_file = scheduler.endswith((".yaml", ".yml"))
    return str(of_caller(scheduler)) if is_file else scheduler


def list_command(options: argparse.Namespace) -> None:
    """One line per notebook: what ``run`` with the same options would do with it, and how long it took."""
    notebooks = in_order(discover(options.folder.absolute()))
    data = parameters.data_folder(options.data)
    values = parameters.plan(notebooks, options.profile, data, options.outputs, options.assignments)
    outputs, data_digest = parameters.outputs_folder(options.profile, options.outputs), states.folder_digest(data)
    rows = [("notebook", "reproduces", "state", "last run")]
    for notebook in sorted(notebooks, key=lambda one: one.name):
        expected = states.fingerprint(notebook, values[notebook.name], outputs, data_digest)
        now = states.state(notebook, expected, outputs)
        last = f"{now.finished[:16].replace('T', ' ')}, {duration(now.seconds)}" if now.finished else ""
        rows.append((notebook.name, notebook.reproduces or notebook.title, str(now), last))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def report_command(options: argparse.Namespace) -> None:
    """Build the report from what has been executed."""
    notebooks = discover(options.folder.absolute())
    outputs = parameters.outputs_folder(options.profile, options.outputs)
    if not any((outputs / f"{notebook.name}.ipynb").exists() for notebook in notebooks):
        raise MisuseError(f"no executed notebook in {outputs}; give the command run first")
    profile = provenance.read(outputs).get("profile", options.profile) if provenance.there(outputs) else options.profile
    with locked(outputs):
        write_report(notebooks, outputs, profile)
    print(f"report: {outputs / 'report.html'}")


def enhance_command(options: argparse.Namespace) -> int:
    """Denoise; prints one line for each recording that failed, and one about all."""
    from dnslib.enhancing import enhance_recordings  # PyTorch and ONNX Runtime take seconds to import

    summary = enhance_recordings(
        options.noisy,
        options.out,
        options.model,
        options.overwrite,
        tell=lambda line: complain(line, 1),
        precision=options.precision,
    )
    print(summary)
    return 1 if summary.failed else 0


def benchmark_command(options: argparse.Namespace) -> None:
    """Print the protocol's table; write it as CSV where asked."""
    from dnslib import benchmark, profiling
    from dnslib.paths import write_atomically

    target = options.csv.absolute() if options.csv else None
    if target and (target.is_dir() or not target.parent.is_dir()):
        raise MisuseError(f"{target} cannot be written: name a file in a folder that is there")
    machine = profiling.timing_conditions()  # the load before, not the measurement's own
    table = benchmark.benchmark([path.absolute() for path in options.models], options.rounds, options.frames)
    print(benchmark.as_text(table, machine))
    if target:
        with write_atomically(target) as path:
            table.to_csv(path, index=False)


def write_report(notebooks, outputs: Path, profile: str) -> None:
    from dnslib.study import report  # nbconvert takes a second to import

    report.write(notebooks, outputs, profile)


def stop(number: int, _frame) -> None:
    """Exit by an exception, so that unfinished files are removed."""
    sys.exit(complain(f"stopped; {KEPT}", 128 + number))


if __name__ == "__main__":
    if INTERRUPTS:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for ending in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP; under nohup it is ignored
        if hasattr(signal, ending) and signal.getsignal(getattr(signal, ending)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, ending), stop)
    sys.exit(main())
