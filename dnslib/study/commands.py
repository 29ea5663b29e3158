"""The command that makes a published run again, told from its notebooks and its provenance."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from dnslib.paths import PROJECT
from dnslib.study import provenance
from dnslib.study.notebooks import NUMBER, Notebook, discover
from dnslib.study.parameters import OWN_OPTION, profile_values

NOTEBOOKS = PROJECT / "notebooks"
PLACEHOLDERS = {"recordings": "RECORDINGS", "exchange": "CLIPS"}  # folders of whoever runs it


def command(folder: Path, sources: Path = NOTEBOOKS) -> str:
    """One line for a shell: the notebooks of ``folder``, and the values that today's profile would not give them.

    Raises MisuseError where ``folder`` holds no notebook or no provenance.
    """
    notebooks, about = discover(folder), provenance.read(folder)
    settings = about["settings"]
    words = ["python -m dnslib run", *(NUMBER.match(one.name)[0] for one in notebooks)]
    words += [f"--profile {settings['profile']}"] if settings["profile"] != "quick" else []
    words += ["--data DIR"] if settings["data"] else []
    today, profile = {one.name: one for one in discover(sources)}, profile_values(about["profile"], sources)
    ran = {name: run["parameters"] for name, run in about["notebooks"].items() if run}
    given = dict(
        pair for one in notebooks for pair in unlike_today(one, ran.get(one.name, {}), today[one.name], profile)
    )
    return " ".join([*words, *(f"-p {name} {text(value)}" for name, value in given.items())])


def unlike_today(executed: Notebook, ran: dict, today: Notebook, profile: dict) -> Iterator[tuple[str, object]]:
    """The values that a notebook ``ran`` with and that the one of ``today`` would not have by its ``profile``."""
    for parameter in executed.parameters:
        name, value = parameter.name, ran.get(parameter.name, parameter.default)
        now = today.parameter(name)
        if now and name not in OWN_OPTION and value != profile.get(name, now.default):
            yield name, PLACEHOLDERS.get(name, value)


def text(value: object) -> str:
    """A value as it is typed: [0.5, P.500], true, 1."""
    if isinstance(value, list):
        return shlex.quote(f"[{', '.join(map(str, value))}]")
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))
