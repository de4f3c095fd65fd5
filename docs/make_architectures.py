"""Write docs/architectures.csv: tiny random models of every architecture, each use beside Hugging Face's own model."""

from __future__ import annotations

import copy
import csv
import logging
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "models"))

from transformers import AutoTokenizer  # noqa: E402
from zoo import ARCHITECTURES, hugging_face  # noqa: E402

from workbench.models import wrap  # noqa: E402
from workbench.models.source import bundled_models  # noqa: E402
from workbench.models.untouched import Untouched  # noqa: E402
from workbench.verify import USES, verify  # noqa: E402


def main() -> None:
    """Compare all, and write the table and the page's copy of it."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    tokens = AutoTokenizer.from_pretrained(bundled_models()["udhr-organism"])
    rows = []
    for name in ARCHITECTURES:
        hf = hugging_face(name, len(tokens))
        oracle = Untouched(copy.deepcopy(hf))
        found = verify(wrap(hf, tokens, name=name, bos=0, device="cpu"), oracle).set_index("use")
        rows.append({"architecture": name} | found.verdict.to_dict())
        print(name, *(f"{use}: {found.verdict[use]}" for use in USES), sep="  ")  # noqa: T201
    with (HERE / "architectures.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["architecture", *USES])
        writer.writeheader()
        writer.writerows(rows)
    lines = ["| architecture | " + " | ".join(USES) + " |", "|---" * (len(USES) + 1) + "|"]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    page = HERE / "trust.md"
    if page.is_file():
        head, mark, rest = page.read_text(encoding="utf-8").partition("<!-- architectures -->\n")
        end = rest.partition("<!-- /architectures -->")
        page.write_text(head + mark + "\n".join(["", *lines, ""]) + "\n<!-- /architectures -->" + end[2], encoding="utf-8")


if __name__ == "__main__":
    main()
