"""One offline HTML file from the executed notebooks: contents, claims first, code folded away, formulas as MathML.

Nothing in it is fetched from anywhere: styles are inline, figures and players are data: addresses, no MathJax.
"""

import csv
import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from bs4.element import Stylesheet
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from dnslib.errors import MisuseError
from dnslib.paths import write_atomically
from dnslib.progress import duration
from dnslib.study import provenance
from dnslib.study.notebooks import Notebook
from dnslib.study.page import PAGE, STYLE

TITLE = "Pruning a deep noise suppression network: the study"
TEMPLATE = """{%- extends 'basic/index.html.j2' -%}
{% block in_prompt %}{% endblock %}
{% block input_group %}<details class="code"><summary>code</summary>{{ super() }}</details>{% endblock %}"""
LOADS = ("script", "link", "iframe", "img", "image", "use", "input", "audio", "video", "source", "track", "embed",
         "object")  # tags that may fetch  # fmt: skip
IN_STYLE = re.compile(r"@import[^;]*;?|url\(\s*['\"]?(?!data:|#|['\"\s])[^)]*\)", re.IGNORECASE)  # as styles may


class Renderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML, which browsers show without help."""

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


class Exporter(HTMLExporter):
    """The body of one notebook."""

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = Renderer(escape=False, attachments=attachments)
        return MarkdownWithMath(renderer=renderer).render(source)

    def default_filters(self):
        yield from super().default_filters()
        yield "markdown2html", self.markdown2html


@dataclass(frozen=True)
class Section:
    """One notebook in the report; ``headings`` are (id, text) of its second level."""

    name: str
    title: str
    headings: tuple[tuple[str, str], ...]
    body: str


def mathml(formula: str, display: str) -> str:
    """MathML of a formula; the formula itself where it cannot be converted."""
    formula = formula.replace(r"\arg", r"\operatorname{arg}")  # the converter lacks it
    try:
        return convert(formula.strip(), display=display)
    except Exception:  # a third-party converter may raise anything; a report must not fail for it
        return f"<code>{html.escape(formula)}</code>"


def write(notebooks: Sequence[Notebook], outputs: Path, profile: str) -> Path:
    """Write ``report.html`` into the outputs folder from what has been executed there; returns its path."""
    sections = [one for notebook in notebooks if (one := section(notebook.name, outputs / f"{notebook.name}.ipynb"))]
    missing = [one.name for one in notebooks if one.name not in {section_.name for section_ in sections}]
    path = outputs / "report.html"
    with write_atomically(path) as temporary:
        temporary.write_text(page(sections, missing, outputs, profile), encoding="utf-8")
    return path


def page(sections: Sequence[Section], missing: Sequence[str], outputs: Path, profile: str) -> str:
    """The whole document."""
    quick = (
        "<p class='banner'><strong>Quick run.</strong> Short trainings and few test clips: it shows that "
        "everything works and which way things go, not the final numbers.</p>"
        if profile == "quick"
        else ""
    )
    names = html.escape(", ".join(missing))
    absent = f"<p class='banner'>Not executed yet, or not readable: {names}.</p>" if missing else ""
    return PAGE.substitute(
        title=html.escape(TITLE),
        style=STYLE,
        contents="\n".join(contents(one) for one in sections),
        banner=quick + absent,
        claims=claims_table(outputs / "results" / "claims.csv"),
        provenance=provenance_line(outputs),
        sections="\n".join(
            f"<section id='{one.name}'><p class='source'>{one.name}.ipynb</p>\n{one.body}</section>" for one in sections
        ),
    )


def section(name: str, path: Path) -> Section | None:
    """Convert one executed notebook; None where there is none that can be read."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (FileNotFoundError, ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError):
        return None
    notebook.metadata.pop("widgets", None)
    exporter = Exporter(raw_template=TEMPLATE, embed_images=True, sanitize_html=False)
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(path.parent)}})
    soup = BeautifulSoup(body, "html.parser")
    fetch_nothing(soup)
    for tag in soup.select("a.anchor-link"):
        tag.decompose()  # the contents lead there
    make_ids_unique(soup, name, styled=bind_styles(soup, name))
    for tag in soup.select("table"):
        tag.wrap(soup.new_tag("div", attrs={"class": "wide"}))
    top = soup.find("h1")
    headings = tuple((tag["id"], tag.get_text()) for tag in soup.find_all("h2") if tag.get("id"))
    return Section(name, top.get_text() if top else name, headings, str(soup))


def fetch_nothing(soup: BeautifulSoup) -> None:
    """Leave out what a browser would load from elsewhere: the report is one file, and nobody learns who reads it."""
    for tag in soup.find_all(LOADS):
        if fetches(tag):
            tag.replace_with(soup.new_string(f"[{tag.name} left out: it would be fetched from the network]"))
    for tag in soup.select("[style]"):
        tag["style"] = IN_STYLE.sub("none", tag["style"])
    for tag in soup.find_all("style"):
        tag.string = Stylesheet(IN_STYLE.sub("none", tag.get_text()))


def make_ids_unique(soup: BeautifulSoup, name: str, styled: set[str]) -> None:
    """Put a notebook's name before its ids and the links to them, as two notebooks, or one, may repeat a heading.

    Those that are ``styled`` have names of their own already.
    """
    taken = Counter()
    for tag in soup.find_all(id=lambda value: value and value not in styled):
        again = f"-again{taken[tag['id']]}" if tag["id"] in taken else ""
        taken[tag["id"]] += 1
        tag["id"] = f"{name}--{tag['id']}{again}"
    for tag in soup.select("a[href^='#']"):
        tag["href"] = f"#{name}--{tag['href'][1:]}"


def bind_styles(soup: BeautifulSoup, name: str) -> set[str]:
    """Give every table that pandas styled a name of its own in the page, in its style as in its ids; returns those ids.

    Equal tables come with equal names, and a notebook's name begins with a digit, which no name in a style may do.
    """
    ids = set()
    for number, style in enumerate(soup.find_all("style")):
        table = style.find_next_sibling("table", id=True)
        if table is None or f"#{table['id']}" not in style.get_text():
            continue
        old, new = table["id"], f"T_{name}_{number}"
        style.string = style.string.replace(f"#{old}", f"#{new}")
        for tag in (table, *table.find_all(id=True)):
            tag["id"] = tag["id"].replace(old, new)
            ids.add(tag["id"])
    return ids


def fetches(tag) -> bool:
    """Whether a tag names something outside the file."""
    addresses = [tag.get(name) for name in ("src", "href", "xlink:href", "data", "poster", "srcset")]
    return any(address and not address.startswith(("data:", "#")) for address in addresses)


def contents(one: Section) -> str:
    """The entry of a notebook in the table of contents."""
    inner = "".join(f"<li><a href='#{id_}'>{html.escape(text)}</a></li>" for id_, text in one.headings)
    return f"<li><a href='#{one.name}'>{html.escape(one.title)}</a><ul>{inner}</ul></li>"


ASIDE = {"where", "clips", "seeds", "notebook"}  # columns of the claims that the notebook shows but not the first page


def claims_table(path: Path) -> str:
    """The claims and their verdicts as the notebook on conclusions wrote them; nothing without that file."""
    if not path.is_file():
        return ""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        if any(len(row) != len(head) for row in rows):
            raise ValueError
    except ValueError:  # empty, cut off, or no text at all
        return f"<p class='banner'>{path.name} is damaged: run 06_conclusions again.</p>"
    shown = [index for index, name in enumerate(head) if name not in ASIDE]
    head, rows = [head[index] for index in shown], [[row[index] for index in shown] for row in rows]
    verdict = next((index for index, name in enumerate(head) if "verdict" in name), None)
    cells = "".join(
        "<tr>" + "".join(cell(text, index == verdict) for index, text in enumerate(row)) + "</tr>" for row in rows
    )
    names = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in head)
    return f"<section id='claims'><h1>Claims</h1><div class='wide'><table>{names}{cells}</table></div></section>"


def cell(text: str, verdict: bool) -> str:
    kind = " class='verdict " + "-".join(text.lower().split()[:2]) + "'" if verdict else ""
    return f"<td{html.escape(kind, quote=False)}>{html.escape(text)}</td>"


def provenance_line(outputs: Path) -> str:
    """Commit, machine and time of the run in a sentence; nothing without a provenance that can be read."""
    try:
        facts = provenance.read(outputs)
    except MisuseError:
        return ""
    runs = [run for run in facts.get("notebooks", {}).values() if run]
    finished = max((run["finished"] for run in runs), default="")[:16].replace("T", " ")
    commit = (facts.get("commit") or "no commit")[:10] + (" with local changes" if facts.get("dirty") else "")
    parts = [
        f"{facts.get('profile')} profile",
        f"commit {commit}",
        f"{facts.get('cpu')}, {facts.get('threads')} threads",
        f"data: {Path(facts.get('data') or '').name}",
        f"finished {finished}, {duration(sum(run['seconds'] for run in runs))} of notebooks",
    ]
    return html.escape(" · ".join(parts))
