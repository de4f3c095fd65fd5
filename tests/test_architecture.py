"""A room imports only from rooms below it, and third parties only where they are let in."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "workbench"
ORDER = (
    "core", "models", "figures", "prompts", "activations", "probes", "directions", "interventions", "evaluation", "training", "prefixes",
    "features", "organism", "runs", "studies", "verify", "doctor", "arguments", "cli",
)  # fmt: skip
LEVEL = {room: level for level, room in enumerate(ORDER)}
FENCED = {
    "transformer_lens": {"models"}, "sae_lens": {"features/training_sae.py"}, "peft": {"models"}, "transformers": {"models", "organism"},
    "plotly": {"figures"}, "circuitsvis": {"figures"}, "kaleido": {"figures"}, "ray": {"activations", "runs"},
    "sklearn": {"probes", "directions", "features"}, "openai": {"evaluation/judges"}, "httpx2": {"evaluation/judges"}, "httpcore2": {"evaluation/judges"},
}  # fmt: skip
# type checking and lazy exports only: the public surface names every room
EXEMPT = {"__init__.py"}


def imports(tree: ast.AST, path: Path):
    """Yield every imported module as (dotted name from the package's root, or third party), also inside functions."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = parts[: len(parts) - node.level]
                if node.module:
                    yield ".".join((*base, node.module))
                else:
                    yield from (".".join((*base, alias.name)) for alias in node.names)
            elif node.module:
                yield node.module


def violations(path: Path, source: str):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    folder = path.relative_to(ROOT).parent.as_posix()
    for name in imports(ast.parse(source), path):
        first, *rest = name.split(".")
        if first == "workbench" and rest:
            other = rest[0]
            if other != room and other in LEVEL and LEVEL[other] >= LEVEL[room]:
                yield f"{path.relative_to(ROOT)} ({LEVEL[room]}) imports {other} ({LEVEL[other]})"
        elif first == "random" or name.startswith("numpy.random"):
            yield f"{path.relative_to(ROOT)} imports {name}: use core.seeds"
        elif first in FENCED and not {room, folder, path.relative_to(ROOT).as_posix()} & FENCED[first]:
            yield f"{path.relative_to(ROOT)} imports {first}"


FILES = sorted(p for p in ROOT.rglob("*.py") if str(p.relative_to(ROOT)) not in EXEMPT)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports(path):
    assert not list(violations(path, path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("core/x.py", "from ..models import load_model"),
        ("probes/x.py", "def f():\n    from ..evaluation import agreement"),
        ("runs/x.py", "from ..studies.udhr import study"),
        ("probes/x.py", "import plotly.graph_objects as go"),
        ("activations/x.py", "from transformer_lens import HookedTransformer"),
        ("prompts/x.py", "from .. import studies"),
        ("prompts/x.py", "import random"),
        ("evaluation/x.py", "def f():\n    import openai"),
        ("features/x.py", "import sae_lens"),
    ],
)
def test_the_test_catches(file, source):
    assert list(violations(ROOT / file, source))


def circles(modules: dict[str, set[str]]) -> list[list[str]]:
    """Return the circles among modules that import each other, each once, as a path back to its first."""
    out, done = [], set()

    def walk(name, path):
        if name in path:
            out.append([*path[path.index(name) :], name])
        elif name not in done:
            for other in sorted(modules.get(name, ())):
                walk(other, [*path, name])
            done.add(name)

    for name in sorted(modules):
        walk(name, [])
    return out


def within(room: str) -> dict[str, set[str]]:
    """Return which modules of a room import which others of it, also inside functions; package files and type checking aside."""
    files = {
        ".".join(p.relative_to(ROOT.parent).with_suffix("").parts): p
        for p in FILES
        if p.relative_to(ROOT).parts[0] == room and p.stem != "__init__"
    }
    out = {}
    for name, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))]
        out[name] = {i for i in imports(tree, path) if i in files and i != name}
    return out


@pytest.mark.parametrize("room", sorted(p.name for p in ROOT.iterdir() if (p / "__init__.py").is_file()))
def test_no_room_has_a_circle(room):
    assert circles(within(room)) == []


def test_the_search_for_circles_finds_them():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_room_has_a_level():
    rooms = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert rooms - {"__init__", "_data"} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 330


def test_importing_the_package_is_light():
    import subprocess
    import sys

    code = "import sys, workbench; print([m for m in ('torch', 'transformers', 'transformer_lens', 'plotly', 'sklearn', 'pandas') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_names_of_test_files_differ():
    """pytest imports a test file by its base name, and of two with one name it reads only the first."""
    names = [path.name for path in (ROOT.parent / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
