"""Methods by name, and fitting one of them on every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..activations import Activations
from ..core.errors import MissingColumn, OneClass, UnknownName, unknown
from ..core.show import Shown, some
from ..prompts import grouped_folds, grouped_split
from .calibration import platt, probabilities
from .ccs import ContrastProbe, fit_contrast, resolve_sign
from .linear import LINEAR, STRENGTHS, TUNED, LinearProbe
from .losses import LOSSES, Loss
from .nonlinear import NONLINEAR, NonlinearProbe
from .scaling import two_classes
from .unsupervised import NATIVE, UNSUPERVISED

Probe = LinearProbe | ContrastProbe | NonlinearProbe
Method = str | Loss | Callable[..., Any]
SUPERVISED = (*LINEAR, *NONLINEAR)
METHODS = (*SUPERVISED, *UNSUPERVISED)
BY = ("identity", "right")


@dataclass(frozen=True, kw_only=True, repr=False)
class Fit(Shown):
    """Probes of one method fitted on one condition, one per layer.

    Attributes:
        method: Its name.
        probes: By layer.
        target: The column they were fitted on (without labels: oriented on).
        condition: Name of the condition they were fitted on.
        slopes: By layer, what turns a score into a probability (fitted on validation rows); none where there is none.
        validation: By layer, accuracy on validation rows, by which a layer or a method may be chosen.
        forms: Whether the probes are normalised by prompt form.
    """

    method: str
    probes: Mapping[int, Probe]
    target: str
    condition: str
    slopes: Mapping[int, float] = field(default_factory=dict)
    validation: Mapping[int, float] = field(default_factory=dict)
    forms: bool = False

    def _shown(self) -> tuple[str, Mapping[str, Any]]:
        layers = some(self.probes, 12)
        best = max(self.validation, key=lambda k: self.validation[k], default=None)
        first = next(iter(self.probes.values()), None)
        return f"{self.method} on {len(self.probes)} layers ({layers}), target {self.target!r}, condition {self.condition!r}", {
            "method": self.method,
            "layers": layers,
            "fitted on": "" if first is None else f"{first.n:,} training pairs of {self.condition!r}",
            "labels": f"column {self.target!r}, {'seen in fitting' if self.supervised else 'for the sign only'}",
            "normalised": "per prompt form" if self.forms else "",
            "best layer on validation rows": ""
            if best is None
            else f"{best} (accuracy {self.validation[best]:.3f}; chosen there, so too high)",
            "next": "probe_layers: held-out rows, with intervals and controls",
        }

    @property
    def supervised(self) -> bool:
        """Whether labels were seen while fitting (not only for the sign)."""
        return not isinstance(next(iter(self.probes.values())), ContrastProbe)

    def scores(self, acts: Activations, layer: int) -> np.ndarray:
        """Return one score per item of a layer; above 0 where the positive variant is held true."""
        x = acts.layer(layer)
        groups = acts.rows["template"].tolist() if self.forms else None
        return self.probes[layer].score(x[:, 1], x[:, 0], groups)

    def probabilities(self, scores: np.ndarray, layer: int) -> np.ndarray | None:
        """Return the probability that the positive variant is true, or nothing where scores are no probabilities.

        For the logistic probe it is its own; for CCS (p(x+) + 1 - p(x-)) / 2; for other supervised probes Platt's, from
        validation rows. Other searches without labels have none.
        """
        if self.method.split(":")[0] in NATIVE:
            return np.clip(0.5 + scores, 0, 1)
        if self.method == "logistic":
            return probabilities(scores, 1.0)
        return probabilities(scores, self.slopes[layer]) if layer in self.slopes else None


def column(acts: Activations, name: str) -> np.ndarray:
    """Return a 0/1 column of the row table."""
    if name not in acts.rows:
        raise MissingColumn(f"the rows have no column {name!r}; there are: {', '.join(acts.rows.columns)}")
    return two_classes(acts.rows[name].to_numpy(), len(acts)) if acts.rows[name].nunique() > 1 else acts.rows[name].to_numpy()


def name_of(method: Method) -> str:
    """Return a method's name after checking that there is such a method.

    Raises:
        UnknownName: There is none.
    """
    if isinstance(method, Loss):
        return method.name
    if callable(method):
        return getattr(method, "__name__", "custom")
    base, _, body = method.partition(":")
    if base not in METHODS:
        raise unknown(UnknownName, "method", method, METHODS)
    if body and (body != "mlp" or base not in LOSSES):
        raise unknown(UnknownName, "method", method, (*METHODS, *(f"{name}:mlp" for name in LOSSES)))
    return method


def fit_layers(
    acts: Activations,
    method: Method,
    *,
    target: str = "label",
    condition: str = "fit",
    folds: int = 5,
    by: Sequence[str] = BY,
    validate: bool = False,
    seed: int = 0,
    **options: Any,
) -> Fit:
    """Fit one method on every layer of these (training) activations.

    Args:
        acts: Training rows of the condition to fit.
        method: A name of `METHODS`; "ccs:mlp" (or another loss) for an MLP body; a `Loss`; or a function of
            (p_negative, p_positive).
        target: 0/1 column of the rows: which variant is true ("label"), or which the model answers ("answer"). Searches
            without labels are fitted without it; only their sign is resolved with it.
        condition: A name for tables.
        folds: For what is tuned: grouped folds of the training rows. With `c=` a number nothing is tuned.
        by: Columns that folds and validation rows share no value of.
        validate: Fit on a part first and keep the accuracy and the scale of the scores on the rest, for supervised methods.
        seed: For starts, folds and validation rows.
        options: Passed to the fit, as `normalise=`, `per=`, `erase_variant=`, `c=`, `restarts=`, …

    Raises:
        UnknownName: No such method.
        OneClass: The target has one class in these rows.
        BadInput: Too few rows or groups for the folds.
    """
    name = name_of(method)
    y = column(acts, target)
    if len(np.unique(y)) < 2:
        raise OneClass(f"all {len(y)} training rows have {target} {y[0]}: a probe needs both classes")
    base, _, body = name.partition(":")
    forms = options.get("per") == "template"
    if forms:
        options["groups"] = acts.rows["template"].tolist()
    supervised = isinstance(method, str) and base in SUPERVISED
    if not supervised:
        return _without_labels(acts, method, name, y, target, condition, forms, seed, options | ({"body": "mlp"} if body else {}))
    fit = LINEAR[base] if base in LINEAR else NONLINEAR[base]
    if base in NONLINEAR:
        options["seed"] = seed
    elif base in TUNED:
        # a hinge without much of a penalty has a flat bottom that Newton crawls along, and gains nothing there
        options.setdefault("c", STRENGTHS[:6] if base == "svm" else STRENGTHS)
    if base in NONLINEAR or (base in TUNED and np.ndim(options["c"]) > 0):
        options.setdefault("folds", grouped_folds(acts.rows, folds, by=[c for c in by if c in acts.rows], seed=seed))
    slopes, validation = {}, {}
    if validate:
        inner = grouped_split(acts.rows, by=[c for c in by if c in acts.rows], seed=seed + 1).side(acts.rows)
        part, rest = acts.subset(inner == "train"), acts.subset(inner == "test")
        kept = {k: v for k, v in options.items() if k not in ("folds", "groups", "seed")}
        first = fit_layers(part, method, target=target, condition=condition, folds=min(folds, 3), by=by, seed=seed, **kept)
        z = column(rest, target)
        for layer in acts.layers:
            scores = first.scores(rest, layer)
            validation[layer] = float(((scores > 0) == z).mean())
            slopes[layer] = platt(scores, z)
    probes = {k: fit(x[:, 1], x[:, 0], y, **options) for k, x in ((k, acts.layer(k)) for k in acts.layers)}
    return Fit(method=name, probes=probes, target=target, condition=condition, slopes=slopes, validation=validation, forms=forms)


def _without_labels(
    acts: Activations,
    method: Method,
    name: str,
    y: np.ndarray,
    target: str,
    condition: str,
    forms: bool,
    seed: int,
    options: dict[str, Any],
) -> Fit:
    rows = f"training rows of condition {condition!r}, by column {target!r}"
    if name == "vinc" and "items" not in options and "statement" in acts.rows and acts.rows["statement"].duplicated().any():
        options["items"] = acts.rows["statement"].to_numpy()
    probes = {}
    for layer in acts.layers:
        x = acts.layer(layer)
        if isinstance(method, str):
            found = UNSUPERVISED[name.partition(":")[0]](x[:, 1], x[:, 0], seed=seed, **options)
        else:
            found = fit_contrast(x[:, 1], x[:, 0], loss=method, seed=seed, **options)
        # the search is over; from here on only the sign is in question
        probes[layer] = replace(resolve_sign(found, x, y, rows=rows, groups=options.get("groups")), method=name)
    return Fit(method=name, probes=probes, target=target, condition=condition, forms=forms)
