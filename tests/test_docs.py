"""The documentation: its Python runs, its links resolve, the site builds without a warning and needs no network."""

import ast
import importlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import traceback
import unicodedata
import warnings
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^(?:<!-- not run:(?P<reason>.*?)-->\n)?```python\n(?P<code>.*?)^```$", re.S | re.M)
MARK = re.compile(r"<!-- not run:")
FENCE = re.compile(r"^```.*?^```$", re.S | re.M)
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")
MACHINE = re.compile(r"/(?:tmp|root|home|work|mnt)/\w")


def name(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def blocks(text: str) -> list[tuple[str, str | None]]:
    """Code and, for blocks that are not run, the reason."""
    return [(m["code"], m["reason"]) for m in BLOCK.finditer(text)]


def run(text: str, title: str) -> None:
    """Run the Python of a page, top to bottom in one namespace."""
    space: dict = {"__name__": "page"}
    sys.modules["page"] = ModuleType("page")  # dataclasses look their module up
    try:
        for code, reason in blocks(text):
            if reason is None:
                exec(compile(code, title, "exec"), space)
    finally:
        del sys.modules["page"]


def serve() -> None:
    """Run pages that are named line by line on standard input; answer each with "ok" or what went wrong, as JSON."""
    answers, sys.stdout, sys.stderr = sys.stdout, io.StringIO(), io.StringIO()
    import workbench as wb

    load, bundled = wb.load_model, wb.load_model("bundled", device="cpu")
    wb.load_model = lambda model="bundled", **how: bundled if model == "bundled" else load(model, **how)
    warnings.simplefilter("error", RuntimeWarning)
    warnings.simplefilter("error", UserWarning)
    for line in sys.stdin:
        page, folder = json.loads(line)
        os.chdir(folder)
        try:
            run((DOCS / page).read_text(encoding="utf-8"), page)
            said = "ok"
        except BaseException:
            said = traceback.format_exc()
        print(json.dumps(said), file=answers, flush=True)


RUNNABLE = [p for p in PAGES if any(reason is None for _, reason in blocks(p.read_text(encoding="utf-8")))]


@pytest.fixture(scope="module")
def reader():
    """A process in which the bundled model is loaded once, without the type checks of the tests, which double the time."""
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; import test_docs; test_docs.serve()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def read(page: Path, folder: Path) -> str:
            print(json.dumps([name(page), str(folder)]), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline() or '"the process has died"')

        yield read
        process.stdin.close()
        process.wait(30)


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_python_runs(page, tmp_path, reader):
    said = reader(page, tmp_path)
    assert said == "ok", said


def test_the_tour_and_every_how_to_run():
    assert {name(p) for p in PAGES if p.parent.name == "how-to"} | {"index.md"} <= {name(p) for p in RUNNABLE}


def test_a_block_that_fails_is_seen():
    with pytest.raises(ZeroDivisionError):
        run("text\n\n```python\nx = 1\n```\n\n```python\nx / 0\n```\n", "made up")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_not_run_says_why(page):
    text = page.read_text(encoding="utf-8")
    reasons = [reason for _, reason in blocks(text) if reason is not None]
    assert len(MARK.findall(text)) == len(reasons), "a mark that stands directly before no Python block"
    assert all(len(reason.split()) >= 2 for reason in reasons)
    assert len(re.findall(r"^\s*```python", text, re.M)) == len(blocks(text)), "a Python block that the test does not see"


def known(dotted: str) -> bool:
    """Whether a name of the package exists."""
    thing = importlib.import_module("workbench")
    for part in dotted.split("."):
        if not hasattr(thing, part):
            if not isinstance(thing, ModuleType) or importlib.util.find_spec(f"{thing.__name__}.{part}") is None:
                return False
            importlib.import_module(f"{thing.__name__}.{part}")
        thing = getattr(thing, part)
    return True


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_names_exist(page):
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"\bwb\.((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)", text)) - {"NAME"}
    assert not [n for n in sorted(names) if not known(n)]


def test_a_name_that_does_not_exist_is_seen():
    assert known("figures.patching.maps")
    assert not known("probes.fit_nothing")


def slug(heading: str) -> str:
    """The anchor that mkdocs gives a heading."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading)
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def anchors(page: Path) -> set[str]:
    return {slug(h) for h in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)}


def broken(page: Path) -> list[str]:
    """Links of a page that lead nowhere."""
    out = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?://", link):
            continue
        # the theme shows one of two pictures by these
        path, _, anchor = link.removesuffix("#only-light").removesuffix("#only-dark").partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and (target.suffix != ".md" or anchor not in anchors(target))):
            out.append(link)
    return out


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page):
    assert not broken(page)


def test_a_broken_link_is_seen(tmp_path):
    (tmp_path / "b.md").write_text("# A thing, `named`\n")
    (tmp_path / "a.md").write_text("[1](b.md) [2](b.md#a-thing-named) [3](b.md#no) [4](c.md) [5](#no)\n")
    assert broken(tmp_path / "a.md") == ["b.md#no", "c.md", "#no"]


class References(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = {k: v or "" for k, v in attrs}
        if tag not in ("a", "link"):
            self.found += [given[a] for a in ("src", "srcset", "data", "poster") if a in given]
        if tag == "link" and not {"canonical", "alternate", "next", "prev"} & set(given.get("rel", "").split()):
            self.found.append(given.get("href", ""))
        self.found += re.findall(r"url\(\s*['\"]?([^)'\"]+)", given.get("style", ""))


def external(html: str) -> list[str]:
    reader = References()
    reader.feed(html)
    reader.found += [u for style in re.findall(r"<style[^>]*>(.*?)</style>", html, re.S) for u in fetched_by_css(style)]
    return [url for url in reader.found if re.match(r"\s*(?:https?:)?//", url)]


def fetched_by_css(css: str) -> list[str]:
    return re.findall(r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)", css) + re.findall(r"@import\s+['\"]((?:https?:)?//[^'\"]+)", css)


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/x.css">',
        '<link rel="preconnect" href="https://fonts.example">',
        '<img alt="" src="http://example.org/x.png">',
        "<style>@import 'https://example.org/x.css';</style>",
    ],
)
def test_an_external_reference_is_seen(html):
    assert external(html)
    assert not external('<a href="https://example.org">a link is only followed</a><img src="x.png"><script src="a/b.js"></script>')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    missing = [m for m in ("mkdocs", "material", "mkdocstrings_handlers") if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_without_a_warning(site):
    for page in PAGES:
        assert (site / page.relative_to(DOCS)).with_suffix(".html").is_file()
    assert (site / "search" / "search_index.json").stat().st_size > 100_000


@pytest.mark.slow
def test_the_site_fetches_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    assert not {p.name: found for p in pages if (found := external(p.read_text(encoding="utf-8")))}
    sheets = sorted(site.rglob("*.css"))
    assert sheets
    assert not {p.name: found for p in sheets if (found := fetched_by_css(p.read_text(encoding="utf-8")))}


@pytest.mark.slow
def test_the_site_names_no_path_of_a_machine(site):
    for page in sorted(site.rglob("*.html")):
        assert not MACHINE.search(page.read_text(encoding="utf-8")), page.name


def public() -> list[str]:
    """Functions and classes that the rooms with a page make public."""
    out = []
    for room in (*(p.stem for p in (DOCS / "reference").glob("*.md")), "evaluation/judges"):
        files = sorted((ROOT / "workbench" / room).glob("*.py"))
        trees = {f.stem: ast.parse(f.read_text(encoding="utf-8")).body for f in files}
        made = {n.name for body in trees.values() for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        for node in trees.get("__init__", []):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                out += [f"workbench.{room.replace('/', '.')}.{n}" for n in ast.literal_eval(node.value) if n in made]
    return out


@pytest.mark.slow
def test_the_reference_has_every_public_name(site):
    whole = "".join(p.read_text(encoding="utf-8") for p in (site / "reference").glob("*.html"))

    def there(full: str) -> bool:
        return f'id="{full}"' in whole or f'id="{full}.' in whole

    assert len(public()) > 150
    # a function of the same name as its module is not listed by its room: the page names it (`::: workbench.prompts.udhr.udhr`)
    assert not [n for n in public() if not there(n)]
    assert not there("workbench.probes.fit_nothing")
    assert "&gt;&gt;&gt;" in whole, "examples in docstrings are shown as code"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_name_no_path_of_a_machine(page):
    assert not MACHINE.search(page.read_text(encoding="utf-8"))
