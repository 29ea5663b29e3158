"""Tables and numbers as Markdown, and where they stand in a text: between two markers."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from dnslib.errors import MisuseError
from dnslib.paths import write_atomically


def replace(path: Path, results: str, name: str = "results") -> None:
    """Replace what stands between two markers of a text; raises MisuseError unless each occurs there exactly once."""
    start, end = markers(name)
    text = path.read_text(encoding="utf-8")
    if text.count(start) != 1 or text.count(end) != 1:
        raise MisuseError(f"{path.name} needs the lines {start} and {end}, each once.")
    before, _, rest = text.partition(start)
    after = rest.partition(end)[2]
    with write_atomically(path) as temporary:
        temporary.write_text(f"{before}{start}\n{results}\n{end}{after}", encoding="utf-8")


def markers(name: str) -> tuple[str, str]:
    """The lines before and after what is written from files."""
    return f"<!-- {name}:start -->", f"<!-- {name}:end -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first ``left`` columns are aligned left, the others right."""
    aligned = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, aligned, *rows))


def interval(row: dict[str, str], name: str, unit: str = "", sign: str = "", digits: int = 2) -> str:
    """ "2.46x [2.40, 2.51]"; a dash where there is no spread, as of a network against itself.

    The value alone where the run has too little for an interval.
    """
    value, low, high = (float(row[name + end]) for end in ("", "_ci_low", "_ci_high"))
    if low == high:
        return "–"
    text, *bounds = (f"{number:{sign}.{digits}f}" for number in (value, low, high))
    brackets = "" if math.isnan(low) else f" [{', '.join(bounds)}]"
    return f"{text}{unit}{brackets}".replace("-", "−")


def thousands(number: str) -> str:
    """ "8 581 153"."""
    return f"{int(number):,}".replace(",", " ")
