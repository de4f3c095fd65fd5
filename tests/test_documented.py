"""What one room calls of another is documented: every argument, what comes back with its shape, what is raised.

The rule, on every public function that another room imports or that a room exports:

- a function with arguments has `Args:`, and every argument is named there;
- a function that returns something has `Returns:` (or, with a single argument, a first line that says it: "Return …", "Whether …");
- an error of the workbench that it raises itself is named under `Raises:`;
- no argument and no return value is a bare `Tensor`: `Float[Tensor, "item d_model"]` says its shape.

On methods of public classes that another room imports: `Args:` from three arguments on, `Returns:` for tensors and tables.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "workbench"
ROOMS = sorted(p.name for p in ROOT.iterdir() if (p / "__init__.py").is_file() and p.name != "_data")
PLAIN = ("Return ", "Whether ", "Yield ")


def parsed():
    return {p: ast.parse(p.read_text(encoding="utf-8")) for p in sorted(ROOT.rglob("*.py"))}


TREES = parsed()


def called_elsewhere() -> set[str]:
    """Names that a file imports from another room, or that a room's `__init__` exports."""
    out = set()
    for path, tree in TREES.items():
        here = path.relative_to(ROOT).parts
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            up = len(here) - node.level
            base = (*here[: max(0, up)], *(node.module or "").split("."))
            if up >= 0 and (path.name == "__init__.py" or base[0] != here[0]):
                out |= {alias.name for alias in node.names}
    return out


CALLED = called_elsewhere()


def overloaded(node: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)


def documented(path: Path):
    """Yield (name, function, whether it is a method) of everything in a file that must be documented."""
    for node in TREES[path].body:
        if isinstance(node, ast.FunctionDef) and node.name in CALLED and not node.name.startswith("_"):
            yield node.name, node, False
        if isinstance(node, ast.ClassDef) and node.name in CALLED and not node.name.startswith("_"):
            for one in node.body:
                if isinstance(one, ast.FunctionDef) and not one.name.startswith("_") and not overloaded(one):
                    yield f"{node.name}.{one.name}", one, True


def annotations(node: ast.FunctionDef, names: list[ast.arg]):
    return [a.annotation for a in names if a.annotation is not None] + ([node.returns] if node.returns is not None else [])


def bare(annotation: ast.expr) -> bool:
    """Whether `Tensor` stands in an annotation outside of a shape like `Float[Tensor, "…"]`."""
    text = re.sub(r"\b(Float|Int|Bool|Num|Shaped|Integer)\[(torch\.)?Tensor\b[^\]]*\]", "", ast.unparse(annotation))
    return bool(re.search(r"\bTensor\b", text))


def faults(path: Path):
    for name, node, method in documented(path):
        text = ast.get_docstring(node) or ""
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if method and not any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list):
            given = given[1:]
        more = [a for a in (node.args.vararg, node.args.kwarg) if a is not None]
        returns = ast.unparse(node.returns) if node.returns is not None else "None"
        needs_args = len(given) + len(more) >= (3 if method else 1)
        plain = text.startswith(PLAIN) and len(given) + len(more) <= 1
        if needs_args and not (plain and len(given) + len(more) == 1):
            body = text.partition("Args:\n")[2]
            if not body:
                yield f"{name}: no Args"
            else:
                body = re.split(r"\n\n(?=\w[\w ]*:\n)|\n(?=\w[\w ]*:\n)", body)[0]
                lost = [a.arg for a in (*given, *more) if not re.search(rf"(?m)^ +[^:\n]*\b{re.escape(a.arg)}\b[^:\n]*:", body)]
                if lost:
                    yield f"{name}: Args says nothing of {', '.join(lost)}"
        gives = returns not in ("None", "bool") and not returns.startswith(("Iterator[None]", "Generator"))
        told = plain or "Returns:" in text or "Yields:" in text
        if gives and not told and (not method or re.search(r"Tensor|DataFrame|ndarray|Array", returns)):
            yield f"{name}: no Returns"
        raised = {
            n.exc.func.id
            for n in ast.walk(node)
            if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call) and isinstance(n.exc.func, ast.Name) and n.exc.func.id[:1].isupper()
        }
        section = text.partition("Raises:\n")[2]
        if lost := sorted(e for e in raised - {"AssertionError"} if not re.search(rf"\b{e}\b", section)):
            yield f"{name}: raises {', '.join(lost)}, which Raises does not name"
        if any(bare(a) for a in annotations(node, [*given, *more])):
            yield f"{name}: a bare Tensor"


@pytest.mark.parametrize("room", ROOMS)
def test_what_another_room_calls_is_documented(room):
    found = [f"{path.relative_to(ROOT)}: {fault}" for path in TREES if path.relative_to(ROOT).parts[0] == room for fault in faults(path)]
    assert not found, f"{len(found)} faults:\n" + "\n".join(found)
