"""The command that makes a published run again, derived from its notebooks and its provenance."""

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
    """One line for a shell: the notebooks of ``folder``, and the values that they would not have by themselves.

    It works both at the commit of the run and today: it names what the profile of either would not give, and for runs
    that did not note their profile all that is no default. Raises MisuseError where ``folder`` holds no notebook or no
    provenance.
    """
    notebooks, about = discover(folder), provenance.read(folder)
    settings = about["settings"]
    words = ["python -m dnslib run", *(NUMBER.match(one.name)[0] for one in notebooks)]
    words += [f"--profile {settings['profile']}"] if settings["profile"] != "quick" else []
    words += ["--data DIR"] if settings["data"] else []
    today = {one.name: one for one in discover(sources)}
    profiles = about.get("profile_values", {}), profile_values(about["profile"], sources)
    ran = {name: run["parameters"] for name, run in about["notebooks"].items() if run}
    given = dict(
        pair for one in notebooks for pair in not_by_itself(one, ran.get(one.name, {}), today[one.name], *profiles)
    )
    return " ".join([*words, *(f"-p {name} {text(value)}" for name, value in given.items())])


def not_by_itself(
    executed: Notebook, ran: dict, today: Notebook, noted: dict, profile: dict
) -> Iterator[tuple[str, object]]:
    """The values that a notebook ``ran`` with, where its own profile (``noted``) or that of ``today`` has others."""
    for parameter in executed.parameters:
        name, value = parameter.name, ran.get(parameter.name, parameter.default)
        now = today.parameter(name)
        if not now or name in OWN_OPTION:
            continue
        if value != noted.get(name, parameter.default) or value != profile.get(name, now.default):
            yield name, PLACEHOLDERS.get(name, value)


def text(value: object) -> str:
    """A value as it is typed: [0.5, P.500], true, 1."""
    if isinstance(value, list):
        return shlex.quote(f"[{', '.join(map(str, value))}]")
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))
