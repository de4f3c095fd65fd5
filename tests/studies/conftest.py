"""What holds of every run's documents."""

import json

import pytest

from workbench.studies.render import load_document


@pytest.fixture
def documented():
    """Check a run's report: findings link to tables, captions state n and interval, figures are drawn from their csv."""

    def check(run):
        document = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
        assert [f["text"] for f in document["findings"] if not f["tables"]] == [], "a finding without a table"
        assert [p["name"] for p in document["panels"] if "n=" not in p["caption"]] == [], "a caption without n"
        assert [p["name"] for p in document["panels"] if "interval" not in p["caption"]] == [], "a caption without a word on the interval"
        _, _, panels = load_document(run.folder)
        for panel in panels:
            assert panel.figure.layout.title.text
            assert (run.folder / "figures" / f"{panel.name}.html").is_file()

    return check
