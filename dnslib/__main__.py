"""The command line: ``python -m dnslib run | list | report``.

Exit status: 0 done, 1 a notebook failed, 2 misuse (one line says what to change), 130 interrupted.
"""

import argparse
import errno
import sys
from pathlib import Path

from dnslib.errors import MisuseError
from dnslib.paths import PROJECT
from dnslib.progress import duration
from dnslib.study import parameters, provenance
from dnslib.study import state as states
from dnslib.study.console import Console
from dnslib.study.notebooks import discover, in_order, select
from dnslib.study.runner import StudyError, locked, run


class Parser(argparse.ArgumentParser):
    """Misuse is one line, without the usage text before it."""

    def error(self, message: str):
        raise MisuseError(f"{message} (python -m dnslib --help shows what is possible)")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a person can mend are one line on the error stream."""
    try:
        options = parser().parse_args(arguments)
        options.command(options)
        return 0
    except MisuseError as error:
        return complain(error, 2)
    except StudyError as error:
        return complain(f"the study failed: {error}", 1)
    except KeyboardInterrupt:
        return complain("interrupted; what is finished is kept, the same command goes on from there", 130)
    except OSError as error:
        return complain(explain(error), 1)


def complain(text: object, status: int) -> int:
    print(f"dnslib: {' '.join(str(text).split())}", file=sys.stderr)
    return status


def explain(error: OSError) -> str:
    """One line for what the system refused."""
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space and give the same command again: what is finished is kept"
    return f"{error.filename or 'a file'}: {(error.strerror or str(error)).lower()}"


def parser() -> Parser:
    top = Parser(prog="python -m dnslib", description="Run the study, see its state, build its report.")
    commands = top.add_subparsers(required=True, metavar="run | list | report")

    run_ = commands.add_parser("run", help="run notebooks in order; what is unchanged is not run again")
    run_.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="name, or its beginning; all by default")
    run_.set_defaults(command=run_command)
    list_ = commands.add_parser("list", help="notebooks, what each reproduces, its state, its last run")
    list_.set_defaults(command=list_command, notebooks=[])
    for command in (run_, list_):
        command.add_argument("--data", default="", metavar="DIR", help="folder with speech/, noise/ and rir/")
        command.add_argument("-p", dest="assignments", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                             help="a parameter of the notebooks; may be given several times")  # fmt: skip
    report = commands.add_parser("report", help="the HTML report from the executed notebooks")
    report.set_defaults(command=report_command, notebooks=[])
    for command in (run_, list_, report):
        command.add_argument("--profile", choices=("quick", "full"), default="quick", help="size of the study")
        command.add_argument("--outputs", type=Path, metavar="DIR", help="folder of the results: outputs/PROFILE")
        command.add_argument("--notebooks-dir", dest="folder", type=Path, default=PROJECT / "notebooks",
                             help=argparse.SUPPRESS)  # fmt: skip
    return top


def run_command(options: argparse.Namespace) -> None:
    """Check everything, then run what is not up to date, then write provenance and report."""
    everything = discover(options.folder.absolute())
    chosen = select(everything, options.notebooks)
    data = parameters.data_folder(options.data)
    values = parameters.plan(chosen, options.profile, data, options.outputs, options.assignments)
    outputs, console = parameters.outputs_folder(options.profile, options.outputs), Console()
    with locked(outputs):
        ran = run(chosen, values, outputs, data, console)
        if ran or not (outputs / "results" / "provenance.json").exists():
            provenance.write(everything, values, outputs, options.profile, data)
        if ran or not (outputs / "report.html").exists():
            write_report(everything, outputs, options.profile)
    console.line(f"report: {outputs / 'report.html'}")


def list_command(options: argparse.Namespace) -> None:
    """One line a notebook: what ``run`` with the same options would do with it, and how long it took."""
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
    with locked(outputs):
        write_report(notebooks, outputs, options.profile)
    print(f"report: {outputs / 'report.html'}")


def write_report(notebooks, outputs: Path, profile: str) -> None:
    from dnslib.study import report  # nbconvert takes a second to import

    report.write(notebooks, outputs, profile)


if __name__ == "__main__":
    sys.exit(main())
