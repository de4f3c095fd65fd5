"""The study of debates: a run that is killed while debates are held goes on with the next case."""

import pytest

import workbench as wb
from workbench.evaluation.debate.debaters import ScriptedDebater
from workbench.studies.debate.study import STUDY


def test_debates_that_were_held_are_not_held_again(tmp_path, monkeypatch):
    said, real = [0], ScriptedDebater.speak

    def speak(self, *args):
        said[0] += 1
        if said[0] == 40:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(ScriptedDebater, "speak", speak)
    how = {"cases": 24, "train": 48, "strengths": (0.0, 1.0), "turns": 1, "elicit": 0, "cache": tmp_path / "cache", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        wb.run_study(STUDY, out=tmp_path / "run", **how)
    tried = 6  # speeches of one case, which every start makes to see whether they fit
    held = (said[0] - 1 - tried) // 6
    assert held == 5
    before = said[0]
    wb.run_study(STUDY, out=tmp_path / "run", **how)
    assert said[0] - before == tried + 6 * (2 * 24 - held)
