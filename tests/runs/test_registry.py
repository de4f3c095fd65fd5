"""Where studies are found: this package's folders, other packages' entry points, files; what is wrong with each."""

import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

import workbench as wb
from workbench.cli import main
from workbench.core import errors
from workbench.runs import find, listed, names, registry

TOY = Path(__file__).parent / "toy" / "study.py"


@pytest.fixture
def installed(monkeypatch):
    """Pretend that a package offers studies."""

    def offer(**entries):
        points = [metadata.EntryPoint(name=k, value=v, group=registry.GROUP) for k, v in entries.items()]
        monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [p for p in points if p.group == group])

    module = ModuleType("somebody_elses")
    module.STUDY = find(TOY)
    module.OTHER = 3
    monkeypatch.setitem(sys.modules, "somebody_elses", module)
    return offer


def test_every_folder_of_studies_is_a_study_of_its_name():
    own = {p.parent.name for p in registry.HOME.glob("*/study.py")}
    assert set(registry.own_names()) == own
    for name in own:
        study = find(name)
        assert study.name == name
        assert study.asks == listed()[name], "the question that is read without an import is the one that is declared"
        assert study.main is not None
        assert set(study.told()) >= set(study.fields), "every setting is explained"


def test_a_study_of_another_package(installed, tmp_path, capsys, monkeypatch):
    installed(toy="somebody_elses:STUDY")
    assert "toy" in names()
    assert listed()["toy"] == "what is the mean of numbers that were drawn?"
    assert wb.check_study("toy", out=tmp_path / "check").steps == 3
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)
    assert main(["run", "toy", "--n", "5", "--quiet", "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]) == 0
    assert wb.rerun(tmp_path / "run", out=tmp_path / "again").agrees, "installed: its name is enough"
    capsys.readouterr()
    assert main(["studies"]) == 0
    assert "toy " in capsys.readouterr().out


def test_broken_entry_points_are_told_and_do_not_hide_the_others(installed, capsys):
    installed(gone="no_such_package.x:STUDY", three="somebody_elses:OTHER", wrong="somebody_elses:STUDY", udhr="somebody_elses:STUDY")
    with pytest.raises(errors.BrokenStudy, match="'gone' of another package cannot be imported: ModuleNotFoundError"):
        find("gone")
    with pytest.raises(errors.BrokenStudy, match="is a int, not a Study"):
        find("three")
    with pytest.raises(errors.BrokenStudy, match="calls itself 'toy'; they must agree"):
        find("wrong")
    assert find("udhr").settings.__name__ == "UdhrSettings", "this package's own comes first"
    assert main(["studies"]) == 0
    said = capsys.readouterr().out
    assert "cannot be loaded" in said
    assert "reading" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "defines 0 studies"),
        ("1 / 0\n", "cannot be imported: ZeroDivisionError"),
        ("import no_such_module\n", "cannot be imported: ModuleNotFoundError"),
        ("def f(:\n", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_that_is_no_study(text, message, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(errors.BrokenStudy, match=message):
        find(tmp_path / "mine.py")
    assert main(["run", str(tmp_path / "mine.py")]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_and_a_name_that_is_none():
    assert find(TOY.parent).name == "toy"
    with pytest.raises(errors.UnknownStudy, match="Did you mean 'geometry'"):
        find("geometri")
    with pytest.raises(errors.BadInput, match=r"no file 'nowhere/mine.py'|no file 'mine.py'"):
        find("nowhere/mine.py")


def test_a_study_from_a_notebook_is_recomputed_when_its_functions_change(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)
    head, _, tail = TOY.read_text().partition("CALLS: list[str] = []")
    space = {"__name__": "a_notebook"}
    sys.modules["a_notebook"] = ModuleType("a_notebook")
    try:
        for factor in ("1.0", "1.0", "2.0"):  # a helper that compute calls
            code = (head + "CALLS: list[str] = []" + tail).replace("def pause(", f"def scaled(x):\n    return {factor} * x\n\n\ndef pause(")
            code = code.replace("rng.normal(size=settings.n) +", "scaled(rng.normal(size=settings.n)) +")
            exec(compile(code, "<cell>", "exec"), space)
            assert find(space["STUDY"]).file is None
            run = wb.run_study(space["STUDY"], out=tmp_path / f"run{factor}", cache=tmp_path / "cache", formats=(), progress=False)
            yielded = [s["cached"] for s in run.record["steps"]]
            space.setdefault("seen", []).append(yielded)
        assert space["seen"] == [[False] * 3, [True] * 3, [False] * 3]
    finally:
        del sys.modules["a_notebook"]
