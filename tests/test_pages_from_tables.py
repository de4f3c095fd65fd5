"""The page about truth probes on outside statements says what its tables say."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_page_is_written_from_its_tables():
    spec = importlib.util.spec_from_file_location("make_truth_transfer", DOCS / "make_truth_transfer.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert (DOCS / "truth-transfer.md").read_text(encoding="utf-8") == make.page(make.kept())


def test_the_page_on_the_student_project_is_written_from_its_tables():
    spec = importlib.util.spec_from_file_location("make_student_project", DOCS / "make_student_project.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert (DOCS / "student-project.md").read_text(encoding="utf-8") == make.page()
