"""The geometry study: the run folder, three levels in words, what it says of the organism, bad input."""

import json

import pytest

import workbench as wb
from workbench.core import errors

SMALL = {
    "items": 64,
    "requests": 40,
    "metrics": ("raw",),
    "draws": 20,
    "resamples": 20,
    "pushed": 0,
    "random": 2,
    "phrasings": 1,
    "scopes": ("stem_last",),
}


@pytest.fixture
def no_browser(monkeypatch):
    """Stills take seconds, and the UDHR study draws them."""
    monkeypatch.setattr("workbench.runs.render.browser", lambda: None)


def test_run_folder_and_findings(tmp_path, no_browser, documented):
    run = wb.run_study("geometry", out=tmp_path / "run", progress=False, **SMALL)
    assert json.loads((run.folder / "run.json").read_text())["status"] == "finished"
    documented(run)
    for name in ("stance", "request", "reply", "plane", "points", "erasure", "cross_steering"):
        assert (run.folder / "figures" / f"{name}.html").is_file()
    angles = run.tables["angles"]
    assert {"layer", "site", "position", "design", "metric", "verdict", "value", "low", "high", "n", "naive_cosine"} <= set(angles.columns)
    assert set(angles["design"]) == {"stance", "request", "reply"}
    late = angles[(angles["design"] == "request") & (angles["position"] == "stem_last") & (angles["layer"] == 4)].iloc[0]
    assert late["low"] > 0.5, "both make the organism refuse, and its reply is formed there"
    verdicts = run.tables["verdicts"]
    assert verdicts["layer"].tolist() == list(range(6))
    assert "2 random pushes, 39 needed" in verdicts["cause"].iloc[4]
    assert "input harm survives" in verdicts["information"].iloc[4]
    text = " ".join(run.findings)
    for word in ("Angle, stance", "Angle, request", "Parts, reply", "Layer 4: As directions", "As information", "As causes"):
        assert word in text


def test_the_whitening_rows_enter_no_direction(organism, tmp_path):
    from workbench.runs import Cache, Run, Steps, find
    from workbench.runs.handle import handles
    from workbench.studies.geometry.study import Geometry, GeometrySettings

    settings, models = GeometrySettings(**SMALL), handles({"model": organism}, Cache(tmp_path))
    study = Geometry(models, settings, Steps(Run(tmp_path, {"steps": []}), find("geometry"), settings, models))
    for claim in settings.claims:
        here, there = (set(study.stances(side)[claim].to_frame()["identity"]) for side in ("train", "test"))
        assert not here & there


def test_bad_settings_are_refused_before_any_pass(organism, tmp_path):
    for match, options in (
        ("items", {"items": 8}),
        ("claims=", {"claims": ("harm", "good")}),
        ("requests", {"requests": 8}),
        ("kl", {"kl": 0.0}),
    ):
        with pytest.raises(errors.BadInput, match=match):
            wb.run_study("geometry", model=organism, out=tmp_path / "run", **options)
    with pytest.raises(errors.UnknownClaim, match="no claim named"):
        wb.run_study("geometry", model=organism, out=tmp_path / "run", claims=("harm", "good", "nothing"))
