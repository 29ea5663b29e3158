"""The scores of the published weights in the README and the model card: ``python -m dnslib.study.card``.

Nothing in these tables is typed by hand. They come from two published runs of 07_5: ``held``, on the test split of the
data that the weights were trained on, and ``elsewhere``, on recordings of which nothing was used to train.
"""

import sys
from pathlib import Path

import pandas as pd

from dnslib.errors import MisuseError
from dnslib.paths import PROJECT
from dnslib.published import WEIGHTS
from dnslib.study import readme
from dnslib.study.readme import interval, line

PUBLISHED = PROJECT / "notebooks" / "published"
REFERENCE = "CRUSE32"
METRICS = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl")
DELAY_MS = {"DTLN": 32, "GTCRN": 32, "RNNoise": 30}  # algorithmic, of public denoisers; see the model card


def update(published: Path = PUBLISHED, overview: Path = PROJECT / "README.md", card: Path = WEIGHTS / "README.md"):
    """Replace the tables of both texts by those of the results below ``published``.

    Raises MisuseError where results or the places for the tables are missing.
    """
    held, elsewhere = published / "held", published / "elsewhere"
    tables = {
        "files": files(held),
        "held": scores(held),
        "elsewhere": scores(elsewhere),
        "look-ahead": look_ahead({"held out": held, "from elsewhere": elsewhere}),
    }
    summary = both(held, elsewhere)
    for name, table in tables.items():
        readme.replace(card, table, name)
    readme.replace(overview, summary, "weights")


def files(folder: Path) -> str:
    """What the files of weights hold."""
    rows = [
        [row.configuration, thousands(row.parameters), f"{row.delay_ms:g}", thousands(row.steps)]
        for row in result(folder, "pretrained_weights").itertuples()
    ]
    return markdown(["network", "parameters", "delay, ms", "training steps"], rows)


def scores(folder: Path) -> str:
    """Every system of one run: scores, and paired differences with 95 % intervals."""
    table, against = (result(folder, name) for name in ("pretrained", "pretrained_differences"))
    against, delays = against.set_index("configuration"), delays_ms(folder)
    rows = []
    for _, row in table.iterrows():
        name = row["configuration"]
        over_reference = against.loc[name] if name in against.index else None
        rows.append(
            [
                name,
                delays.get(name, ""),
                *(f"{row[metric]:.2f}" for metric in METRICS),
                "–" if name == "noisy" else interval(row, "delta_ovrl", sign="+"),
                difference(over_reference, "delta_ovrl"),
                "–" if name == "clean" else f"{row['si_sdr_db']:.1f}".replace("-", "−"),
                "–" if name == "clean" else difference(over_reference, "delta_si_sdr_db"),
            ]
        )
    head = ["", "delay, ms", "SIG", "BAK", "OVRL", "ΔOVRL over noisy", f"ΔOVRL over {REFERENCE}"]
    return markdown([*head, "SI-SDR, dB", f"ΔSI-SDR over {REFERENCE}, dB"], rows)


def look_ahead(folders: dict[str, Path]) -> str:
    """What the longer delay gives, paired, a row for each configuration and kind of clips."""
    rows = [
        [row["configuration"], kind, *(interval(row, f"delta_{name}", sign="+") for name in ("sig", "bak", "ovrl"))]
        for kind, folder in folders.items()
        for _, row in result(folder, "pretrained_look_ahead").iterrows()
    ]
    return markdown(["", "clips", "ΔSIG", "ΔBAK", "ΔOVRL"], rows)


def both(held: Path, elsewhere: Path) -> str:
    """OVRL of every system on both kinds of clips, for the README."""
    here, there = (result(folder, "pretrained").set_index("configuration") for folder in (held, elsewhere))
    parameters = result(held, "pretrained_weights").set_index("configuration")["parameters"]
    delays, rows = delays_ms(held), []
    for name in (name for name in there.index if name in here.index):
        values = (
            f"{table.loc[name, 'dnsmos_ovrl']:.2f}"
            + ("" if name == "noisy" else f" ({interval(table.loc[name], 'delta_ovrl', sign='+')})")
            for table in (here, there)
        )
        size = thousands(parameters[name]) if name in parameters.index else ""
        rows.append([name, size, delays.get(name, ""), *values])
    heads = [f"OVRL, {clips} (over noisy)" for clips in ("held-out clips", "clips from elsewhere")]
    return markdown(["", "parameters", "delay, ms", *heads], rows)


def delays_ms(folder: Path) -> dict[str, str]:
    """Algorithmic delay of each denoiser of a run."""
    ours = result(folder, "pretrained_weights").set_index("configuration")["delay_ms"].to_dict()
    return {name: f"{delay:g}" for name, delay in (DELAY_MS | ours).items()}


def difference(row: pd.Series | None, name: str) -> str:
    """A paired difference; a dash for the network that the others are compared with."""
    return "–" if row is None else interval(row, name, sign="+")


def thousands(number: int) -> str:
    """ "8 581 153"."""
    return f"{int(number):,}".replace(",", " ")


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table whose columns but the first are set to the right."""
    return "\n".join([line(head), line(["---"] + ["---:"] * (len(head) - 1)), *map(line, rows)])


def result(folder: Path, name: str) -> pd.DataFrame:
    """A result of a published run of 07_5; raises MisuseError where it is missing."""
    path = folder / "results" / f"{name}.csv"
    if not path.is_file():
        raise MisuseError(f"There is no {path.name} in {folder.name}: publish a run of 07_5 under that name first.")
    return pd.read_csv(path)


if __name__ == "__main__":
    try:
        update()
    except MisuseError as error:
        sys.exit(str(error))
