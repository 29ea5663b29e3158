"""From a finished run to what the project shows: ``python -m dnslib.study.publish OUTPUTS [NAME]``.

Executed notebooks, results and Figure 1 go to ``notebooks/published/``, weights (float16) to ``dnslib/weights/``, and
the README shows the results. With a name, a run of some notebooks goes to the folder of that name beside them, and the
scores of the weights in README and model card are written anew. Sound is taken out, as recordings are not part of the
project, and so is what only names the machine: folders and the kernel's release.
"""

import json
import os
import re
import sys
from collections.abc import Container, Iterable
from pathlib import Path

import nbformat
import pandas as pd
import torch
from safetensors.torch import load_file

from dnslib import plots
from dnslib.errors import MisuseError, told_in_one_line
from dnslib.experiments import Laboratory
from dnslib.model import save_weights
from dnslib.paths import PROJECT, of_caller, remove, resolve, write_atomically
from dnslib.published import WEIGHTS, published_name
from dnslib.settings import Settings
from dnslib.study import card, provenance, readme

TARGET = card.PUBLISHED
NAMES = ("CRUSE32", "P.500", "P.750", "P.875")  # the configurations whose weights are published
SOUND = re.compile(r"<audio|data:audio/")
LINK = re.compile(r"\]\(([\w./-]+\.(?:ipynb|md))\)")  # to a file of the project
LEFT_OUT = "A player stood here: recordings are not part of the project."
KERNEL_RELEASE = re.compile(r"(Linux[ -])\d[\w.+-]*")


def publish(outputs: Path, target: Path = TARGET) -> list[Path]:
    """Put the cleaned notebooks and results of a finished run in place of what is in ``target``; returns the files.

    Raises MisuseError where there is no finished run, or a damaged notebook.
    """
    facts = provenance.read(outputs)
    texts = cleaned_texts(outputs, target, folders(facts))  # all of them, before anything is replaced
    for earlier in (*target.glob("*.ipynb"), target / "results", target / "figure_1.png"):  # other folders stay
        remove(earlier)
    written = [_write(path, text) for path, text in texts.items()]
    figure_1 = target / "results" / "figure_1.csv"
    if figure_1.is_file():  # a run of some notebooks may have none
        figure = plots.speed_and_quality(pd.read_csv(figure_1), profile=facts["settings"]["profile"])
        written.append(target / "figure_1.png")
        with write_atomically(written[-1]) as temporary:
            figure.savefig(temporary, dpi=110, bbox_inches="tight")
    return written


def cleaned_texts(outputs: Path, target: Path, hidden: dict[str, str]) -> dict[Path, str]:
    """Notebooks and results of a run as they are to stand in ``target``, by their paths there."""
    visible = sorted(outputs.glob("[!.]*.ipynb"))  # hidden: one that a killed run left half done
    notebooks = {path.name: _read(path) for path in visible if not path.name.endswith(".failed.ipynb")}
    texts = {}
    for name, text in notebooks.items():
        try:
            text = without_sound(cleaned(text, checkout_of(text) | hidden))
        except ValueError:  # of JSON
            raise MisuseError(f"{outputs / name} is damaged: remove it and run the notebook again.") from None
        texts[target / name] = linked(text, target, notebooks)
    for path in sorted((outputs / "results").glob("*.*")):
        if path.suffix in (".csv", ".json"):
            texts[target / "results" / path.name] = cleaned(_read(path), hidden)
    return texts


def publish_weights(laboratory: Laboratory, names: Iterable[str] = NAMES, folder: Path = WEIGHTS) -> list[Path]:
    """Write the trained networks of some configurations as float16 safetensors.

    Each file's metadata name the run, its steps, the digest of its data and the frames that it looks ahead. Raises
    MisuseError for untrained ones and for those that are bundled with the project.
    """
    runs, written = {name: laboratory.network(name) for name in names}, []
    for name, run in runs.items():
        if run.shipped:
            raise MisuseError(f"{name} of {laboratory.outputs} is bundled with the project: it is published already.")
        if not (laboratory.folder(run) / "DONE").is_file():
            raise MisuseError(f"{name} is not trained in {laboratory.outputs}: run the study first.")
    for name, run in runs.items():
        trained = load_file(laboratory.folder(run) / "model.safetensors")
        weights = {key: value.to(torch.float16) for key, value in trained.items()}
        facts = {"run": run.name, "steps": run.total_steps, "data": run.data, "look_ahead": run.look_ahead}
        written.append(folder / f"{published_name(name, run.look_ahead)}.safetensors")
        save_weights(weights, written[-1], facts)
    return written


def folders(facts: dict) -> dict[str, str]:
    """What to write in place of folders of this machine and of its scheduler.

    ``facts`` are those of the provenance.
    """
    replaced = {str(PROJECT): "."}
    ran = [notebook["parameters"] for notebook in facts.get("notebooks", {}).values() if notebook]
    for values in (facts["settings"], *ran):
        for name in ("data", "recordings", "exchange"):
            if values.get(name):
                replaced[str(resolve(values[name]))] = name.upper()
        if (scheduler := values.get("scheduler", "")) and not scheduler.startswith("local:"):
            replaced[scheduler] = "SCHEDULER"
    outputs = facts["settings"]["outputs"]
    replaced[str(resolve(outputs))] = "OUTPUTS" if Path(outputs).expanduser().is_absolute() else outputs
    return replaced | {sys.prefix: ".venv", str(Path.home()): "~"}


def checkout_of(text: str) -> dict[str, str]:
    """The checkout that a notebook was executed in, which may be another one than this, as `folders` writes it."""
    source = Path(json.loads(text)["metadata"].get("papermill", {}).get("input_path") or "")
    return {str(source.parents[1]): "."} if source.is_absolute() and len(source.parents) > 2 else {}


def cleaned(text: str, hidden: dict[str, str]) -> str:
    """A file's text without folders of this machine and without the kernel's release."""
    for folder, name in sorted(hidden.items(), key=lambda pair: -len(pair[0])):  # the innermost folders first
        for written in {folder, json.dumps(folder)[1:-1]}:  # JSON may write letters beyond ASCII as \\uXXXX
            text = re.sub(rf"{re.escape(written)}(?![\w.-])", name, text)
    return KERNEL_RELEASE.sub(lambda match: match[1].rstrip(" -"), text)


def without_sound(text: str) -> str:
    """A notebook's JSON whose outputs with players are replaced by a line that says so."""
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if SOUND.search(json.dumps(output.get("data", {}))):
                output["data"] = {"text/plain": LEFT_OUT}
    return nbformat.writes(notebook) + "\n"


def linked(text: str, folder: Path, beside: Container[str]) -> str:
    """Links to files that are not published ``beside`` this one lead to where they are, or else to the source."""
    places = (*_folders_in(folder), folder.parent, *_folders_in(folder.parent), folder.parent.parent)

    def link(match: re.Match) -> str:
        found = [] if match[1] in beside else [place for place in places if (place / match[1]).is_file()]
        return f"]({Path(os.path.relpath(found[0] / match[1], folder)).as_posix()})" if found else match[0]

    return LINK.sub(link, text)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir())


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> Path:
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def publish_study(outputs: Path) -> list[Path]:
    """Publish notebooks, results and weights of a whole run; the README shows its results."""
    settings = provenance.read(outputs)["settings"] | {"outputs": str(outputs)}  # they may have been moved
    laboratory = Laboratory(Settings(**settings))
    written = publish_weights(laboratory)  # raises before anything was replaced
    written += publish(outputs)
    readme.update(TARGET)
    return written


def publish_part(outputs: Path, name: str) -> list[Path]:
    """Publish a run of some notebooks beside the study, under a name; README and model card show its scores."""
    if not re.fullmatch(r"[a-z][a-z_-]*", name) or name == "results":
        raise MisuseError(f"A published run is named by small letters, not {name!r}.")
    written = publish(outputs, TARGET / name)
    card.update(TARGET)
    return written


def main(arguments: list[str]) -> None:
    """Publish an outputs folder, all of it or under a name; says what came of it and what is left to do."""
    outputs = of_caller(arguments[0] if arguments else PROJECT / "outputs" / "full")
    whole = len(arguments) < 2
    written = publish_study(outputs) if whole else publish_part(outputs, arguments[1])
    print(f"{len(written)} files, {sum(path.stat().st_size for path in written) / 1e6:.1f} MB")
    if whole:
        print("The weights are new: run 07_5 on held-out clips and on other recordings, publish as held and elsewhere.")


if __name__ == "__main__":
    with told_in_one_line("interrupted: publish again, what was there may be half replaced; git has it"):
        main(sys.argv[1:])
