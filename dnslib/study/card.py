"""Tables of published runs in README, model card and list of runs: ``python -m dnslib.study.card``.

Nothing in these tables is typed by hand. The scores of the published weights come from two runs of 07_5: ``held``, on
the test split of the data that the weights were trained on, and ``elsewhere``, on recordings of which nothing was used
to train. ``deployment`` is a run of 07_1 with these weights, ``deployment_amd`` one with earlier weights on another
processor. Beside the reference run of the whole study there are an earlier, ``first`` one and a ``second`` one, and
Figure 1 and Table 3 of the latter with a ``third_seed``.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from dnslib.errors import told_in_one_line
from dnslib.intervals import student_interval
from dnslib.paths import PROJECT
from dnslib.published import WEIGHTS, configuration
from dnslib.study import commands, provenance, readme
from dnslib.study.markdown import interval, replace, table, thousands
from dnslib.study.notebooks import NUMBER

PUBLISHED = PROJECT / "notebooks" / "published"
REFERENCE = "CRUSE32"
METRICS = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl")
DELAY_MS = {"DTLN": "32", "GTCRN": "32", "RNNoise": "30"}  # algorithmic, of public denoisers; see the model card


def update(
    published: Path = PUBLISHED,
    overview: Path = PROJECT / "README.md",
    card: Path = WEIGHTS / "README.md",
    runs: Path = PUBLISHED / "README.md",
) -> None:
    """Replace the tables of README, model card and list of runs by those of the results below ``published``.

    Raises MisuseError where results or the places for the tables are missing.
    """
    held, elsewhere, first, second = (published / name for name in ("held", "elsewhere", "first", "second"))
    forms = published / "deployment", published / "deployment_amd"
    whole = {"reference run": published, "second run": second}
    texts = {
        card: {
            "files": files_table(held, published),
            "held": scores_table(held),
            "elsewhere": scores_table(elsewhere),
            "look-ahead": look_ahead_table({"held out": held, "from elsewhere": elsewhere}),
        },
        overview: {
            "answer": readme.answer_table(whole),
            "claims": readme.claims_table(whole),
            "weights": weights_table(held, elsewhere),
        },
        runs: {
            "runs": runs_table(published),
            "commands": rerun_commands(published),
            "first": readme.numbers(first),
            "second": readme.numbers(second),
            "reference seeds": "\n\n".join(seed_tables([published])),
            "seeds": "\n\n".join(seed_tables([second, published / "third_seed"])),
            "deployment": "\n\n".join([deployment_table(forms), *map(self_check_line, forms), *map(int8_line, forms)]),
        },
    }  # all are made before the first text changes
    for path, tables in texts.items():
        for name, text in tables.items():
            replace(path, text, name)


def runs_table(published: Path) -> str:
    """Every published run: its notebooks, code, seeds and processor."""
    rows = []
    for folder in folders(published):
        about = provenance.read(folder)
        name = "this folder" if folder == published else f"[{folder.name}]({folder.name}/)"
        last = max(notebook["finished"] for notebook in about["notebooks"].values() if notebook)
        ran = ", ".join(NUMBER.match(path.name)[0] for path in sorted(folder.glob("*.ipynb")))
        seeds = ", ".join(map(str, about["seeds"]))
        rows.append([name, ran, commit_of(about), seeds, readme.processor(folder), last[:10]])
    return table(["", "notebooks", "commit", "seeds", "processor", "finished"], rows, left=6)


def commit_of(about: dict) -> str:
    return about["commit"][:7] + (" with local changes" if about.get("dirty") else "")


def rerun_commands(published: Path) -> str:
    """The command that makes each published run again."""
    names = {published: "this folder"}
    lines = [f"# {names.get(folder, folder.name)}\n{commands.command(folder)}" for folder in folders(published)]
    return "\n".join(["```", *lines, "```"])


def folders(published: Path) -> list[Path]:
    """The folder of the whole study, and the named runs below it."""
    return [published, *sorted(path.parent.parent for path in published.glob("*/results/provenance.json"))]


def files_table(folder: Path, study: Path) -> str:
    """What the files of weights hold; multiply-accumulates are those of the configuration in Table 2 of ``study``."""
    rows = []
    for name, row in result(folder, "pretrained_weights").items():
        macs = float(readme.row_of(study / "results" / "table_2.csv", configuration(name))["macs_per_frame"])
        size = thousands(row["parameters"]), f"{macs / 1e6:.2f}"
        rows.append([name, *size, delay(row["delay_ms"]), thousands(row["steps"])])
    return table(["network", "parameters", "million MACs a frame", "delay, ms", "training steps"], rows)


def scores_table(folder: Path) -> str:
    """Every system of one run: scores, and paired differences with 95 % intervals."""
    against, delays = result(folder, "pretrained_differences"), delays_ms(folder)
    rows = [
        [
            name,
            delays.get(name, ""),
            *(f"{float(row[metric]):.2f}" for metric in METRICS),
            "–" if name == "noisy" else interval(row, "delta_ovrl", sign="+"),
            "–" if name == REFERENCE else interval(against[name], "delta_ovrl", sign="+"),
            "–" if name == "clean" else f"{float(row['si_sdr_db']):.1f}".replace("-", "−"),
            "–" if name in ("clean", REFERENCE) else interval(against[name], "delta_si_sdr_db", sign="+"),
        ]
        for name, row in result(folder, "pretrained").items()
    ]
    head = ["", "delay, ms", "SIG", "BAK", "OVRL", "ΔOVRL over noisy", f"ΔOVRL over {REFERENCE}"]
    return table([*head, "SI-SDR, dB", f"ΔSI-SDR over {REFERENCE}, dB"], rows)


def look_ahead_table(folders: dict[str, Path]) -> str:
    """What the longer delay gives, paired, a row for each configuration and kind of clips."""
    rows = [
        [name, kind, *(interval(row, f"delta_{metric}", sign="+") for metric in ("sig", "bak", "ovrl"))]
        for kind, folder in folders.items()
        for name, row in result(folder, "pretrained_look_ahead").items()
    ]
    return table(["", "clips", "ΔSIG", "ΔBAK", "ΔOVRL"], rows)


def weights_table(held: Path, elsewhere: Path) -> str:
    """OVRL of every system on both kinds of clips, for the README."""
    here, there = (result(folder, "pretrained") for folder in (held, elsewhere))
    weights, delays = result(held, "pretrained_weights"), delays_ms(held)
    rows = [
        [
            name,
            thousands(weights[name]["parameters"]) if name in weights else "",
            delays.get(name, ""),
            *(ovrl_cell(name, scored[name]) for scored in (here, there)),
        ]
        for name in there
        if name in here
    ]
    heads = [f"OVRL, {clips} (over noisy)" for clips in ("held-out clips", "clips from elsewhere")]
    return table(["", "parameters", "delay, ms", *heads], rows)


def seed_tables(folders: Iterable[Path]) -> Iterator[str]:
    """What each seed of runs by one recipe says: pruned against CRUSE32, and pruned against directly trained."""
    folders = list(folders)
    yield by_seed(folders, "figure_1_seeds", "05_0", "ΔOVRL against CRUSE32")
    yield by_seed(folders, "table_3_seeds", "05_1", "ΔOVRL, pruned minus direct")


def by_seed(folders: Iterable[Path], name: str, notebook: str, title: str) -> str:
    """ΔOVRL of each seed, paired with the reference of the same seed; the mean with its interval over seeds."""
    found: dict[str, dict[int, dict[str, str]]] = {}
    for folder in folders:
        for row in published_rows(folder, name, notebook):
            if row["delta_ovrl_ci_low"] != row["delta_ovrl_ci_high"]:  # those of the reference
                found.setdefault(row["configuration"], {})[int(row["seed"])] = row
    shown = sorted({seed for rows in found.values() for seed in rows})
    rows = [
        [name, *(interval(of_seed[seed], "delta_ovrl", sign="+") if seed in of_seed else "" for seed in shown),
         mean_of_seeds(pd.Series([float(row["delta_ovrl"]) for row in of_seed.values()]))]
        for name, of_seed in found.items()
    ]  # fmt: skip
    return table([title, *(f"seed {seed}" for seed in shown), "mean of the seeds"], rows)


def mean_of_seeds(values: pd.Series) -> str:
    """A mean with its interval over seeds; empty for one seed, which shows no spread."""
    if len(values) < 2:
        return ""
    low, high = student_interval(values)
    return interval({"mean": values.mean(), "mean_ci_low": low, "mean_ci_high": high}, "mean", sign="+")


def deployment_table(folders: Iterable[Path]) -> str:
    """How much faster each network's chosen form is, on the processor of each run."""
    head = ["", "processor", "ms a frame", "back to back", "cold caches", "one frame every 10 ms, as in a call"]
    chosen = [
        [
            f"{row['configuration']} {row['form']}",
            readme.processor(folder),
            f"{float(row['latency_ms']):.2f}",
            *(interval(row, f"{kind}speedup", "x") for kind in ("", "cold_", "paced_")),
        ]
        for folder in folders
        for row in published_rows(folder, "deployment", "07_1")
        if row["chosen"] == "True"
    ]
    return table(head, chosen, left=2)


def self_check_line(folder: Path) -> str:
    """How fast CRUSE32 was found against itself, where the run has noted it."""
    if not (folder / "results" / "deployment_self_check.csv").is_file():
        return f"{folder.name}: the self check is in the notebook."  # an earlier run
    (row,) = published_rows(folder, "deployment_self_check", "07_1")
    found = ", ".join(interval(row, f"{kind}speedup", "x", digits=4) for kind in ("", "cold_", "paced_"))
    return f"{folder.name}: CRUSE32 against itself, in the same three ways, {found}."


def int8_line(folder: Path) -> str:
    """By how much int8 changes the mean scores of DNSMOS at most, over all configurations."""
    rows = [row for row in published_rows(folder, "deployment_quality", "07_1") if row["form"] == "int8"]
    deltas = [f"delta_{part}" for part in ("sig", "bak", "ovrl")]
    most, furthest = (
        max(abs(float(row[delta + end])) for row in rows for delta in deltas for end in ends)
        for ends in ([""], ["_ci_low", "_ci_high"])
    )
    clips = f"{rows[0]['clips']} clips"
    bounds = f"by {most:.3f} at most (95 % intervals within ±{furthest:.3f})"
    return f"int8, {folder.name}: the mean of SIG, BAK and OVRL over {clips} changes {bounds}."


def ovrl_cell(name: str, row: dict[str, str]) -> str:
    """OVRL of a system and, in brackets, what it gains over the noisy clips."""
    gain = "" if name == "noisy" else f" ({interval(row, 'delta_ovrl', sign='+')})"
    return f"{float(row['dnsmos_ovrl']):.2f}{gain}"


def delays_ms(folder: Path) -> dict[str, str]:
    """Algorithmic delay of each denoiser of a run."""
    ours = {name: delay(row["delay_ms"]) for name, row in result(folder, "pretrained_weights").items()}
    return DELAY_MS | ours


def delay(milliseconds: str) -> str:
    return f"{float(milliseconds):g}"


def result(folder: Path, name: str) -> dict[str, dict[str, str]]:
    """The rows of a result of 07_5, by configuration; raises MisuseError where it is missing."""
    return {row["configuration"]: row for row in published_rows(folder, name, "07_5")}


def published_rows(folder: Path, name: str, notebook: str) -> list[dict[str, str]]:
    """The rows of a published run's result; MisuseError where it is missing, with the notebook that makes it."""
    missing = f"in {folder.name}: publish a run of {notebook} under that name first"
    return readme.rows(folder / "results" / f"{name}.csv", missing)


if __name__ == "__main__":
    with told_in_one_line():
        update()
