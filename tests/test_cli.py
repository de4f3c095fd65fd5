import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.cli import main


@pytest.mark.parametrize(
    ("words", "expected"), [(["studies"], "udhr"), (["models"], "udhr-organism"), (["datasets"], "216 identities x 38 rights")]
)
def test_lists(words, expected, capsys):
    assert main(words) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "udrh"], "UnknownStudy: no study named 'udrh'"),
        (["run", "my_study.py"], "BadInput: no file 'my_study.py'"),
        (["run", "udhr", "--model", "./nowhere"], "UnknownModel: no folder './nowhere'"),
        (["train", "nobody", "--out", "x"], "UnknownModel: no organism named 'nobody'"),
    ],
)
def test_errors_say_what_to_do(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_help_is_quick_to_import():
    code = "import sys; sys.argv=['workbench','--help']\ntry:\n import workbench.cli as c; c.main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith("False")


TOY = Path(__file__).parent / "runs" / "toy" / "study.py"


@pytest.fixture
def quiet(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings_of(folder):
    return json.loads((folder / "run.json").read_text())["settings"]


def test_a_study_s_settings_are_flags_and_set(quiet, capsys):
    words = ["run", str(TOY), "--n", "7", "--groups", "x", "y", "--set", "shift=.5", "--set", "seed=3", "--quiet", "--out", "one"]
    assert main(words) == 0
    assert "report:" in capsys.readouterr().out
    assert settings_of(quiet / "one") == {"n": 7, "groups": ["x", "y"], "shift": 0.5, "wait": 0.0, "data": "", "seed": 3}
    assert main(["run", str(TOY), "--set", "groups=x,y", "--seed", "3", "--fast", "--quiet", "--out", "two"]) == 0
    assert settings_of(quiet / "two") == {"n": 10, "groups": ["x", "y"], "shift": 0.0, "wait": 0.0, "data": "", "seed": 3}
    assert main(["run", str(TOY), "--set", 'groups=["x, y"]', "--quiet", "--out", "three"]) == 0
    assert settings_of(quiet / "three")["groups"] == ["x, y"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "m=3"], "has no setting m; it has: n, groups"),
        (["--set", "n"], "SETTING=VALUE"),
        (["--set", "n=many"], "n = 'many': a whole number"),
        (["--n", "1.5"], "n = 1.5: a whole number"),
        (["--n", "1"], "n: 2 numbers at least, got 1"),
        (["--n", "3", "--set", "n=4"], "given twice"),
        (["--set", "groups=[1]"], "a list of values, each a text"),
        (["--model", "bundled"], ""),
        (["--model", "udhr-organism"], "takes no models; leave it out"),
        (["--workers", "2"], "are for sweeps"),
        (["--formats", "gif"], "format 'gif'"),
    ],
)
def test_wrong_words_are_refused(words, message, quiet, capsys):
    code = main(["run", str(TOY), *words, "--quiet", "--out", "run"])
    assert code == (2 if message else 0)
    assert message in capsys.readouterr().err
    assert message == "" or not (quiet / "run").exists()


def test_help_of_a_study_lists_its_settings(capsys):
    with pytest.raises(SystemExit) as end:
        main(["run", str(TOY), "--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "settings of toy" in text
    assert "the more, the narrower the intervals. (default: 40)" in text


def test_studies_are_listed_without_being_imported():
    code = "import sys; from workbench.cli import main; main(['studies']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("False")
    for name in ("udhr", "probes", "geometry", "steering", "refusal", "patching", "caa", "reading"):
        assert f"\n{name} " in f"\n{out}"


def test_check_study_from_the_command_line(quiet, capsys):
    assert main(["check-study", str(TOY)]) == 0
    assert "toy keeps the contract: 3 steps" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize(("model", "first"), [("smollm2", "workbench get smollm2"), ("bundled", ""), ("some/one", "")])
def test_make_study_fetches_a_model_that_can_be_fetched(model, first):
    root = Path(__file__).parents[1]
    command = ["make", "-n", "-C", str(root), "study", *([] if model == "bundled" else [f"MODEL={model}"]), f"VENV={root}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    lines = [line.partition("/bin/")[2] for line in lines if "bin/workbench" in line]
    folder = "figures/udhr" if model == "bundled" else f"figures/udhr-{model.rpartition('/')[2]}"
    assert lines == [first] * bool(first) + [f"workbench run udhr --model {model} --out {folder}"]
