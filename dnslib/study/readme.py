"""The results in the README, written from the files of a run: ``python -m dnslib.study.readme outputs/quick``.

Nothing between the two markers is typed by hand, so the first screen never says what no run has measured.
"""

import csv
import sys
from collections.abc import Mapping
from pathlib import Path

from dnslib.claims import SELF_CHECK
from dnslib.errors import MisuseError, told_in_one_line
from dnslib.paper import PRUNED
from dnslib.paths import PROJECT, of_caller
from dnslib.study import provenance
from dnslib.study.markdown import interval, replace, table, thousands


def update(outputs: Path, readme: Path = PROJECT / "README.md") -> None:
    """Replace what stands between the markers of ``readme`` by the results below ``outputs``."""
    replace(readme, block(outputs))


def block(outputs: Path) -> str:
    """Figure 1 if it is there, and `numbers`, as Markdown."""
    return "\n".join([*figure(outputs), numbers(outputs)])


def numbers(outputs: Path) -> str:
    """The table of configurations, and where its numbers come from."""
    results = outputs / "results"
    speed = {row["configuration"]: row for row in rows(results / "table_2.csv")}
    quality = {row["configuration"]: row for row in rows(results / "figure_1.csv")}
    head = ("configuration", "channels", "parameters", "fewer", "ms a frame", "faster", "faster, cold caches",
            "OVRL", "ΔOVRL")  # fmt: skip
    configurations = table(head, [configuration_row(speed[name], scores) for name, scores in quality.items()], left=2)
    verdicts = [row["verdict"] for row in rows(results / "claims.csv")]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in sorted(set(verdicts), reverse=True))
    claims = f"Of the paper's 13 claims: {counts}."
    return "\n".join(
        [
            configurations,
            "",
            against_noisy(results),
            sig_and_bak_ranges(quality),
            provenance_note(outputs, quality, speed[SELF_CHECK]),
            *seed_spread(results, quality),
            claims,
        ]
    )


def answer_table(runs: Mapping[str, Path]) -> str:
    """What a middle and the smallest network gain and lose, in each of several runs."""
    found = []
    for name in ("P.500", "P.875"):
        for run, outputs in runs.items():
            speed, quality = (row_of(outputs / "results" / f"{file}.csv", name) for file in ("table_2", "figure_1"))
            fewer = f"{float(speed['compression_ratio']):.1f}x"
            faster = (interval(speed, column, "x") for column in ("speedup", "cold_speedup"))
            found.append([name, run, fewer, *faster, interval(quality, "delta_ovrl", sign="+")])
    return table(["", "run", "fewer parameters", "faster", "faster, cold caches", "ΔOVRL"], found, left=2)


def row_of(path: Path, configuration: str) -> dict[str, str]:
    """The row of a configuration in a result; MisuseError where the run left it out."""
    for row in rows(path):
        if row["configuration"] == configuration:
            return row
    raise MisuseError(f"There is no {configuration} in {path}.")


def claims_table(runs: Mapping[str, Path]) -> str:
    """Every claim with its verdict and figure in each of several runs, which all judged the same claims."""
    claims = {name: rows(outputs / "results" / "claims.csv") for name, outputs in runs.items()}
    *_, latest = claims.values()  # in today's wording
    judged = [[f"**{claim['verdict']}**: {claim['measured']}" for claim in run] for run in claims.values()]
    cells = [
        [claim["id"], claim["statement"], claim["published"], *found]
        for claim, *found in zip(latest, *judged, strict=True)
    ]
    return table(["", "claim", "the paper", *claims], cells, left=3 + len(claims))


def figure(outputs: Path) -> list[str]:
    """Lines that show the Figure 1 of published results and link to their notebooks."""
    picture = outputs / "figure_1.png"
    if not picture.is_file():
        return []
    folder = outputs.relative_to(PROJECT).as_posix() if outputs.is_relative_to(PROJECT) else outputs.name
    return [
        f"![Figure 1 of the paper, measured again: latency and quality]({folder}/{picture.name})",
        "",
        "Speedup (back to back, logarithmic) against DNSMOS. Bars are 95 % intervals, wide because clips differ: "
        "to compare networks use the paired ΔOVRL below. Lines are quadratic trends without CRUSE16; P.875 "
        "decides most of their R².",
        "",
        f"[The executed notebooks]({folder}/), [their results]({folder}/results/).",
        "",
    ]


def configuration_row(speed: dict[str, str], quality: dict[str, str]) -> list[str]:
    """One configuration; brackets are 95 % intervals."""
    return [
        speed["configuration"],
        speed["channels"],
        thousands(speed["parameters"]),
        f"{float(speed['compression_ratio']):.2f}x",
        f"{float(speed['latency_ms']):.2f}",
        interval(speed, "speedup", "x"),
        interval(speed, "cold_speedup", "x"),
        f"{float(quality['dnsmos_ovrl']):.2f}",
        interval(quality, "delta_ovrl", sign="+"),
    ]


def against_noisy(results: Path) -> str:
    """What CRUSE32 gains over the noisy clips."""
    gain = row_of(results / "table_5.csv", "CRUSE32")
    noisy = float(gain["dnsmos_ovrl"]) - float(gain["delta_ovrl"])
    return f"The noisy clips score {noisy:.2f}; CRUSE32 gains {interval(gain, 'delta_ovrl', sign='+')} over them."


def sig_and_bak_ranges(quality: dict[str, dict[str, str]]) -> str:
    """How far the pruned networks lie from CRUSE32 in signal and background, which OVRL does not show apart."""
    words = []
    for name in ("sig", "bak"):
        deltas = [float(row[f"delta_{name}"]) for configuration, row in quality.items() if configuration in PRUNED]
        words.append(f"Δ{name.upper()} from {min(deltas):+.2f} to {max(deltas):+.2f}")
    return f"Pruned networks against CRUSE32 in the parts of DNSMOS: {', '.join(words)}.".replace("-", "−")


def seed_spread(results: Path, quality: dict[str, dict[str, str]]) -> list[str]:
    """How far apart ΔOVRL lies between the seeds of a run that has several."""
    if int(next(iter(quality.values()))["seeds"]) == 1:
        return []
    deltas = {}
    for row in rows(results / "figure_1_seeds.csv"):
        deltas.setdefault(row["configuration"], []).append(float(row["delta_ovrl"]))
    apart = {name: max(found) - min(found) for name, found in deltas.items() if name in PRUNED}
    nearest, furthest = (choose(apart, key=apart.get) for choose in (min, max))
    ends = " to ".join(f"{apart[name]:.2f} ({name})" for name in (nearest, furthest))
    return [f"Between seeds ΔOVRL differs by {ends}."]


def provenance_note(outputs: Path, quality: dict[str, dict[str, str]], clock: dict[str, str]) -> str:
    """Where the numbers come from; ``clock`` is the row of the network that was raced against itself."""
    about = provenance.read(outputs)
    scores = next(iter(quality.values()))
    seeds = "one seed" if int(scores["seeds"]) == 1 else f"{scores['seeds']} seeds"
    speakers = f" of {scores['speakers']} speakers" if "speakers" in scores else ""  # older runs: over clips
    test = f"{scores['clips']} test clips{speakers}, {seeds}; {processor(outputs)}; one thread"
    return (
        f"A {about['profile']} run, {training(about['settings'])}; {test}. Brackets are 95 % "
        f"intervals, over rounds for speed, over {'speakers' if speakers else 'clips'} and paired by clip for ΔOVRL "
        "(against CRUSE32). "
        "*Cold caches*: other data fill the caches before every frame, as other programs do between two frames; "
        "without that, a pruned network can stay in a cache that CRUSE32 does not fit into. CRUSE32 against "
        f"itself: {interval(clock, 'speedup', 'x')}, cold {interval(clock, 'cold_speedup', 'x')}."
    )


def processor(outputs: Path) -> str:
    """The processor of a run, with its last-level cache where latencies were measured: names alone are ambiguous."""
    cpu = provenance.read(outputs)["cpu"]
    measured = (row for path in sorted((outputs / "results").glob("*.csv")) for row in rows(path)[:1])
    evicted = next((float(row["cold_evicted_mb"]) for row in measured if row.get("cold_evicted_mb")), None)
    return cpu if evicted is None else f"{cpu}, last-level cache {evicted / 2:.0f} MB"  # twice its size is evicted


def training(settings: dict) -> str:
    """What the networks of a run were trained on, and for how long."""
    material = "recordings" if settings["data"] else "synthesised speech and noise"
    steps = settings["baseline_cycles"] * settings["baseline_steps"]
    batch = f"{settings['batch_size']} x {settings['crop_seconds']:g} s"
    return f"{steps} training steps of {batch} on {material}, {settings['fine_tuning_steps']} more after pruning"


def rows(path: Path, missing: str = "yet: run the study first") -> list[dict[str, str]]:
    """The rows of a result; where there is none, ``missing`` says in the MisuseError what to do."""
    if not path.is_file():
        raise MisuseError(f"There is no {path.name} {missing}.")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    with told_in_one_line():
        update(of_caller(sys.argv[1] if len(sys.argv) > 1 else PROJECT / "outputs" / "quick"))
