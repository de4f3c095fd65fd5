"""Figures and report from documents: what a run wrote is enough to draw it again, without a model.

`report.json` holds what the report says and, for each figure, the function that draws it and its arguments; the rows lie in
`figures/NAME.csv`. A captions file (toml) exchanges titles, captions and labels: another language, or plainer words for a post.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import AlteredRun, BadInput, MissingTool
from ..core.provenance import content_hash
from ..core.whole import write_whole, writing
from ..figures import THEMES, Finding, Panel, browser, export, words_of, write_report
from ..figures.export import WRITTEN
from ..figures.words import title_of, wrapped
from .digests import told
from .document import DOCUMENT, load_document
from .inside import check_inside
from .record import RECORD
from .run import Run
from .shape import read_json

FORMATS = ("html", "png", "svg", "pdf")
_REPORT = ("title", "subtitle", "convention", "warning", "findings", "limits", "made")


def render(
    run: Run,
    document: Mapping[str, Any],
    panels: Sequence[Panel],
    *,
    out: Path | None = None,
    formats: Sequence[str] | None = None,
    theme: str = "light",
    single_file: bool = False,
    anew: bool = False,
) -> str:
    """Write figures and report of a run.

    Args:
        run: The run, with its tables.
        document: What the report says.
        panels: The figures.
        out: Another folder; by default the run's own.
        formats: Of the figures; by default html, and png and svg where a browser is found.
        theme: "light" or "dark".
        single_file: Whether each figure's html carries the drawing library.
        anew: Draw stills again that lie there: the folder may be a stranger's.

    Returns:
        What the reader should know about the figures, or "".
    """
    folder = out or run.folder
    asked = tuple(formats) if formats is not None else _default_formats()
    note = "" if formats is not None or browser() else "html only: no Chrome or Chromium found"
    try:
        _export(folder / "figures", panels, asked, single_file, anew=anew)
    except MissingTool as error:
        if formats is not None:
            raise
        asked, note = ("html",), f"html only: {error}"
        warnings.warn(f"figures: {note}", stacklevel=2)
    write_report(
        folder / "index.html",
        title=document["title"],
        subtitle=document["subtitle"],
        findings=_findings(document),
        convention=document["convention"],
        panels=panels,
        limits=document["limits"],
        tables=run.tables,
        made=document["made"],
        warning=document["warning"],
        steps=run.record["steps"],
        settings=document["settings"],
        stills=[f for f in asked if f != "html"],
        theme=theme,
        links=[(text, link) for text, link in document.get("links", ())],
    )
    return note


def _default_formats() -> tuple[str, ...]:
    return ("html", "png", "svg") if browser() else ("html",)


def _findings(document: Mapping[str, Any]) -> list[Finding]:
    return [Finding(f["text"], *f.get("tables", ())) for f in document["findings"]]


def _export(folder: Path, panels: Sequence[Panel], formats: Sequence[str], single_file: bool = False, *, anew: bool = False) -> None:
    """Write figures, each with its caption. Stills, which take a browser and seconds, only where they changed, or all of them `anew`."""
    seal = folder / ".seal.json"
    try:
        old = dict(read_json(seal))
    except (OSError, ValueError, TypeError):
        old = {}
    new = {p.name: content_hash(p.figure.to_json(), sorted(formats), "single" if single_file else "shared", WRITTEN) for p in panels}
    stills = tuple(f for f in formats if f != "html")
    there = {p.name for p in panels if not anew and old.get(p.name) == new[p.name]}
    there = {name for name in there if all((folder / f"{name}.{kind}").is_file() for kind in stills)}
    folder.mkdir(parents=True, exist_ok=True)
    for panel in panels:  # a picture that travels alone does not say its n
        write_whole(folder / f"{panel.name}.txt", panel.caption + "\n")
    pages = tuple(f for f in formats if f == "html")
    export({p.name: p.figure for p in panels}, folder, formats=pages, single_file=single_file)
    export({p.name: p.figure for p in panels if p.name not in there}, folder, formats=stills)
    write_whole(seal, json.dumps({**old, **new}))


def redraw(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    theme: str = "light",
    captions: str | Path | Mapping[str, Any] | None = None,
    formats: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    single_file: bool = False,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Draw a run's figures and report again from its tables, without a model.

    Args:
        folder: A finished run.
        out: Another folder; by default over those that are there.
        theme: "light" or "dark".
        captions: A toml file (or what it holds) with other words: `[report]` title, subtitle, findings, …; `[figures.NAME]` title, caption;
            `[labels]` any label of any figure, exchanged wherever it stands (but not in what the pointer shows). `captions_of` writes one
            to begin with.
        formats: Of "html", "png", "svg", "pdf"; by default html, and png and svg where a browser is found.
        only: Names of figures; the report is then left as it is.
        single_file: Put the drawing library (4.8 MB) into each figure's html, so that it can be passed on alone. By default the figures
            of a run share one copy beside them.
        say: Receives what is to be known of the run, such as that a table was changed after the run; by default a warning is given. The
            report says it, too.

    Returns:
        The report.

    Raises:
        DamagedRun: There is no finished run, something is missing from it, or it is none that a study could have written.
        OutputFolder, DiskFull: What is drawn cannot be written.
        BadInput: No such theme, format or figure, or a captions file that names what there is not.
        MissingTool: A format needs Chrome and there is none.
    """
    if theme not in THEMES:
        raise BadInput(f"theme {theme!r}: there are {', '.join(THEMES)}")
    strange = sorted(set(formats or ()) - set(FORMATS))
    if strange:
        raise BadInput(f"format {strange[0]!r}: there are {', '.join(FORMATS)}")
    run, document, panels = load_document(folder)
    names = [p.name for p in panels]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise BadInput(f"no figure {unknown[0]!r} in {run.folder.name}; there are: {', '.join(names)}")
    words = _captions(captions)
    _check(words, panels, document)
    labels = {str(k): str(v) for k, v in words.get("labels", {}).items()}
    shown = []
    for panel in panels:
        own = words.get("figures", {}).get(panel.name, {})
        mine = dict(labels)
        if "title" in own:
            mine[title_of(panel.figure)] = own["title"]
        shown.append(replace(panel, caption=own.get("caption", panel.caption), theme=theme, words=mine))
    altered = told(run.folder.name, run.altered)
    if altered and say is None:
        warnings.warn(altered, AlteredRun, stacklevel=2)
    elif altered and say is not None:
        say(f"note: {altered}")
    target = Path(out) if out else run.folder
    check_inside(target)
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
        if only:
            chosen = [p for p in shown if p.name in only]
            _copy(run, [p for name in chosen for p in _rows(name)], target)
            _export(target / "figures", chosen, tuple(formats) if formats is not None else _default_formats(), single_file, anew=True)
            return run.report
        return _redrawn(run, document, shown, words, altered, target, formats=formats, theme=theme, single_file=single_file)


def _redrawn(
    run: Run, document: dict[str, Any], shown: Sequence[Panel], words: Mapping[str, Any], altered: str, target: Path, **how: Any
) -> Path:
    """Write figures and report to a folder, with all that it takes to draw them there again."""
    for key, value in words.get("report", {}).items():
        document[key] = (
            [{"text": t, "tables": f["tables"]} for t, f in zip(value, document["findings"], strict=True)] if key == "findings" else value
        )
    # pages of a sweep's cells lie in its own folder only
    document["links"] = [(text, link) for text, link in document["links"] if (target / link).exists()]
    if altered:
        document["warning"] = f"{altered}. {document['warning']}".strip()
    tables = [f"tables/{name}.csv" for name in run.tables]  # the report links to them
    _copy(run, [*tables, *(p for panel in shown for p in _rows(panel)), RECORD, DOCUMENT], target)
    render(run, document, shown, out=target, anew=True, **how)
    return target / "index.html"


def _rows(panel: Panel) -> list[str]:
    """Where a figure's rows lie in a run."""
    return [f"figures/{name}" for name in panel.drawing.files(panel.name)]


def _copy(run: Run, names: Sequence[str], target: Path) -> None:
    """Take files along to another folder, byte for byte: their digests are those in the record."""
    if target.resolve() == run.folder.resolve():
        return
    for name in names:
        (target / name).parent.mkdir(exist_ok=True)
        write_whole(target / name, (run.folder / name).read_bytes())


def _captions(given: str | Path | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if given is None or isinstance(given, Mapping):
        return given or {}
    try:
        return tomllib.loads(Path(given).read_text(encoding="utf-8"))
    except OSError:
        raise BadInput(f"no captions file {str(given)!r}; `workbench redraw FOLDER --write-captions FILE` writes one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{Path(given).name} is not a toml file: {error}") from None


def _check(words: Mapping[str, Any], panels: Sequence[Panel], document: Mapping[str, Any]) -> None:
    names = [p.name for p in panels]
    stray = sorted(set(words) - {"report", "figures", "labels"})
    if stray:
        raise BadInput(f"captions: no section [{stray[0]}]; there are [report], [figures.NAME] and [labels]")
    for section, value in words.items():
        if not isinstance(value, Mapping):
            raise BadInput(f"captions: {section} is a section, [{section}], not {value!r}")
    for name, own in words.get("figures", {}).items():
        if name not in names:
            raise BadInput(f"captions: no figure {name!r}; there are: {', '.join(names)}")
        odd = sorted(set(own) - {"title", "caption"}) if isinstance(own, Mapping) else [own]
        if odd:
            raise BadInput(f"captions: [figures.{name}] has title and caption, not {odd[0]!r}")
        _texts(f"figures.{name}", own)
    if odd := sorted(set(words.get("report", {})) - set(_REPORT)):
        raise BadInput(f"captions: [report] has {', '.join(_REPORT)}, not {odd[0]!r}")
    for key, value in words.get("report", {}).items():
        if key not in ("findings", "limits", "made"):
            _texts("report", {key: value})
        elif isinstance(value, str) or not all(isinstance(v, str) for v in value):
            raise BadInput(f"captions: [report] {key} is a list of texts")
        elif key == "findings" and len(value) != len(document["findings"]):
            raise BadInput(f"captions: [report] findings: {len(value)} texts for {len(document['findings'])} findings")
    if labels := words.get("labels", {}):
        _texts("labels", labels)
        known = {w for p in panels for w in words_of(p.figure)}
        if lost := sorted(set(labels) - known):
            near = difflib.get_close_matches(lost[0], known, n=1)
            raise BadInput(f"captions: no figure has the label {lost[0]!r}{f'; did you mean {near[0]!r}?' if near else ''}")


def _texts(section: str, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if not isinstance(value, str):
            raise BadInput(f"captions: [{section}] {key} = {value!r}: a text")


def captions_of(folder: str | Path) -> str:
    """Return a captions file (toml) with every word of a run's report and figures, to be changed and given to `redraw`."""
    _, document, panels = load_document(folder)

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # json allows it bare, toml does not

    def line(key: str, value: str) -> str:
        return f"{quoted(key)} = {quoted(value)}"

    out = ["# Change what stands to the right of each =, delete what may stay, then: workbench redraw FOLDER --captions THIS"]
    out += ["", "[report]", *(line(k, document[k]) for k in ("title", "subtitle", "convention"))]
    labels: dict[str, None] = {}
    for panel in panels:
        title = title_of(panel.figure)
        out += ["", f"[figures.{json.dumps(panel.name)}]", *(f"# {text}" for text in wrapped(f"drawn by {panel.drawing.name}"))]
        out += [line("title", title), line("caption", panel.caption)]
        labels |= dict.fromkeys(w for w in words_of(panel.figure) if w != title)
    return "\n".join([*out, "", "[labels]", *(line(w, w) for w in labels)]) + "\n"
