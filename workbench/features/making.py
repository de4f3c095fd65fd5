"""A dictionary of a model from texts, written to a folder with its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import BadInput
from ..core.provenance import content_hash
from ..core.seeds import derive, numpy_rng
from ..core.tables import write_csv
from ..core.whole import check_writable
from ..models import load_model
from .corpus import corpus
from .dictionary import Dictionary
from .pages import write_latents
from .quality import quality_table
from .streams import read_streams
from .training import fit_dictionary

REPORT = "report.csv"


def make_dictionary(
    model: Any,
    texts: Mapping[str, Sequence[str]],
    out: str | Path,
    *,
    layer: int,
    site: str = "resid_post",
    kind: str = "topk",
    width: int,
    held: int = 100,
    seeds: int = 1,
    seed: int = 0,
    store: str | Path | None = None,
    pages: bool = False,
    progress: bool | None = None,
    **how: Any,
) -> pd.DataFrame:
    """Train dictionaries of one place on texts, report on them on others, and write both.

    Args:
        model: What `load_model` returns.
        texts: By source, what `corpus` returns.
        out: The folder: the dictionary of the first seed, `seed-1`, … for further ones, and `report.csv`.
        layer, site, kind, width: As for `train_dictionary`.
        held: Texts, drawn at random, that nothing is trained on: the report is on them.
        seeds: Dictionaries that are trained.
        seed: Of the first; draws the texts that are held out, too.
        store: A folder for streams and checkpoints, by default `OUT/working`: a killed run goes on from there.
        pages: Also write a page per latent, from the held-out texts, to `OUT/pages`.
        progress: Show bars.
        how: Further arguments of `fit_dictionary`.

    Returns:
        The report: `dictionary, metric, value, low, high, n, note`, with a permuted dictionary as the control.

    Raises:
        BadInput: Too few texts. Otherwise as `train_dictionary`.
    """
    every = [t for own in texts.values() for t in own]
    if held < 8 or len(every) < 4 * held or seeds < 1:
        raise BadInput(f"{len(every)} texts, held={held} (8 at least, and four times as many texts), seeds={seeds} (1)")
    folder = Path(out)
    check_writable(folder)
    place = folder / "working" if store is None else Path(store)
    order = numpy_rng(seed, "held-out texts").permutation(len(every))
    reported, trained = [every[i] for i in order[:held]], [every[i] for i in order[held:]]
    where: dict[str, Any] = {"layer": layer, "site": site, "progress": progress}
    rows = read_streams(model, reported, store=place / "held-out", **where)
    streams = read_streams(model, trained, store=place / "streams", **where)
    centre = streams.rows.mean(0)
    about = {**streams.provenance, "sources": {name: len(own) for name, own in texts.items()}}
    made = {}
    for k in range(seeds):
        here = folder if k == 0 else folder / f"seed-{k}"
        key = content_hash(about, kind, width, how, seed + k)
        if (here / "cfg.json").is_file() and (done := Dictionary.load(here)).provenance.get("key") == key:
            made[f"seed {seed + k}"] = done
            continue
        facts = {**about, "key": key}
        one = fit_dictionary(streams.rows, kind=kind, width=width, seed=seed + k, store=place, progress=progress, place=facts, **how)
        one.save(here)
        made[f"seed {seed + k}"] = one
    first = next(iter(made.values()))
    table = quality_table(model, {**made, "permuted": first.permuted(derive(seed, "report"))}, rows, reported, centre)
    table["texts"], table["tokens trained on"] = len(trained), len(streams)
    write_csv(folder / REPORT, table)
    if pages:
        write_latents(model, first, rows, folder / "pages", seed=seed)
    return table


def from_sources(model: str, texts: Sequence[str], out: str | Path, *, tokens: int | None = None, **how: Any) -> pd.DataFrame:
    """Load a model, gather texts and make a dictionary: `workbench dictionary`.

    Args:
        model: Name or folder.
        texts: Sources, as for `corpus`.
        out: As for `make_dictionary`.
        tokens: As for `corpus`.
        how: Further arguments of `make_dictionary`.

    Returns:
        The report.
    """
    loaded = load_model(model)
    found = corpus(loaded, texts, tokens=tokens, seed=how.get("seed", 0))
    return make_dictionary(loaded, found, out, **how)
