"""README's Python runs as printed, and its commands and links exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("text,is_true\nCats are animals.,true\nStones are animals.,false\n")
    space: dict = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), space)
    assert len(BLOCKS) == 4
    out = capsys.readouterr().out
    assert "safe_score" in out
    assert "ccs" in out


def test_studies_are_those_that_there_are():
    from workbench.runs import listed

    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|$", TEXT, re.M))
    assert rows == listed()


def test_links_exist():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("target", ["study", "test", "check", "bench", "organism", "docs", "gallery", "lab"])
def test_make_targets_exist(target):
    assert f"make {target}" in TEXT
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_no_placeholder_is_left():
    assert "@" not in re.sub(r"\S+@\S+\.\S+", "", TEXT)


DOCS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("data/**/*.md"), *ROOT.glob("notebooks/*")]


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_documents_name_no_path_of_a_machine(path):
    assert not re.search(r"/(?:tmp|root|home|work|mnt)/\w", path.read_text(encoding="utf-8"))
