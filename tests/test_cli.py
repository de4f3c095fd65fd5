import subprocess
import sys

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


def test_run_fast(tmp_path, capsys, monkeypatch):
    from workbench.studies import udhr

    monkeypatch.setattr("workbench.studies.render.browser", lambda: None)
    original = udhr.fast
    udhr.fast = lambda seed=0: udhr.UdhrSettings(
        behaviour=16, train=40, test=32, rights_per_identity=2, resamples=20, ccs_epochs=50, seed=seed
    )
    try:
        assert main(["run", "udhr", "--out", str(tmp_path / "run"), "--fast", "--quiet"]) == 0
    finally:
        udhr.fast = original
    assert "report:" in capsys.readouterr().out
