"""Methods by name, and fitting one of them on every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..activations import Activations
from ..activations.variants import is_paired, single_rows, variants
from ..core.errors import BadInput, OneClass, UnknownName, unknown
from ..core.remember import remembered
from ..core.show import Shown, some
from ..core.types import Float, Int
from ..prompts import grouped_folds, grouped_split
from .calibration import platt, probabilities
from .ccs import ContrastProbe, fit_contrast, resolve_sign
from .custom import CustomProbe, Supervised, fit_custom, sees_labels
from .given import column
from .linear import LINEAR, STRENGTHS, TUNED
from .linear_probe import LinearProbe
from .losses import LOSSES, Loss
from .nonlinear import NONLINEAR, NonlinearProbe
from .polarity import opposites
from .unsupervised import NATIVE, UNSUPERVISED

Probe = LinearProbe | ContrastProbe | NonlinearProbe | CustomProbe
# a name of METHODS; a loss; or a function: of (p_negative, p_positive) a loss, of (x_positive, x_negative, seed) a supervised method
Method = str | Loss | Supervised
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

    def scores(self, acts: Activations, layer: int) -> Float[np.ndarray, " item"]:
        """Return the scores of one layer's probe.

        Args:
            acts: Activations of contrast pairs, or of single statements, from the place that the probes were fitted at.
            layer: The block, counted from 0; one that was fitted.

        Returns:
            One score per item; above 0 where the positive variant is held true.
        """
        groups = acts.rows["template"].tolist() if self.forms else None
        return self.probes[layer].score(*variants(acts, layer), groups)

    def probabilities(self, scores: Float[np.ndarray, " item"], layer: int) -> Float[np.ndarray, " item"] | None:
        """Return the probability that the positive variant is true, or nothing where scores are no probabilities.

        For the logistic probe it is its own; for CCS (p(x+) + 1 - p(x-)) / 2; for other supervised probes Platt's, from
        validation rows. Other searches without labels have none.

        Args:
            scores: From `scores` of this layer.
            layer: The block, counted from 0.

        Returns:
            One probability per item, 0 to 1; `None` where the method states none.
        """
        if self.method.split(":")[0] in NATIVE:
            return np.clip(0.5 + scores, 0, 1)
        if self.method == "logistic":
            return probabilities(scores, 1.0)
        return probabilities(scores, self.slopes[layer]) if layer in self.slopes else None


def is_supervised(method: Method) -> bool:
    """Return whether a method sees labels while it is fitted: a supervised name, or a function `(x_positive, x_negative, seed)`."""
    if isinstance(method, str):
        return method.partition(":")[0] in SUPERVISED
    return callable(method) and sees_labels(method)


def fitting(acts: Activations, methods: Sequence[Method]) -> list[Method]:
    """Return the methods that these activations can be given to: all for contrast pairs, those that see labels for single rows."""
    return [m for m in methods if is_paired(acts) or is_supervised(m)]


def name_of(method: Method) -> str:
    """Return a method's name in tables.

    Args:
        method: As for `fit_layers`.

    Returns:
        The name itself; of a loss its name; of a function its `__name__`.

    Raises:
        UnknownName: There is no such method.
        BadInput: A supervised function has the name of a built-in method.
    """
    if isinstance(method, Loss):
        return method.name
    if callable(method):
        name = getattr(method, "__name__", "custom")
        if name in METHODS and sees_labels(method):
            raise BadInput(f"a method of your own is named {name!r}, which is the name of a built-in method: rename the function")
        return name
    base, _, body = method.partition(":")
    if base not in METHODS:
        raise unknown(UnknownName, "method", method, METHODS)
    if body and (body != "mlp" or base not in LOSSES):
        raise unknown(UnknownName, "method", method, (*METHODS, *(f"{name}:mlp" for name in LOSSES)))
    return method


def by_name(methods: Sequence[Method]) -> dict[str, Method]:
    """Return methods by their names in tables, in order.

    Args:
        methods: As for `fit_layers`.

    Returns:
        The methods by name.

    Raises:
        UnknownName: There is no such method.
        BadInput: Two methods of one name, which a table could not tell apart.
    """
    names = [name_of(method) for method in methods]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadInput(f"several methods are named {twice[0]!r}: a table could not tell them apart. Name each once, rename functions")
    return dict(zip(names, methods, strict=True))


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
        method: A name of `METHODS`; "ccs:mlp" (or another loss) for an MLP body; a `Loss`, or a function of
            (p_negative, p_positive), which is a loss; or a supervised method of your own, a function of
            (x_positive, x_negative, seed). That one gets the training rows of both classes, `item d_model` each: of every
            pair the variant that is true, and the other one, normalised like those of any method. It returns a vector of
            length d_model, a function of rows that gives one score per row, or an object with `decision_function(rows)` or
            `score(rows)`; higher means class positive. See `probes.custom`.
        target: 0/1 column of the rows: which variant is true ("label"), or which the model answers ("answer"). Searches
            without labels are fitted without it; only their sign is resolved with it.
        condition: A name for tables.
        folds: Number of grouped folds of the training rows, 2 or more, for methods that are tuned. With `c=` a number nothing
            is tuned.
        by: Columns that folds and validation rows share no value of.
        validate: Fit on a part first and keep the accuracy and the scale of the scores on the rest, for supervised methods.
        seed: For starts, folds and validation rows.
        options: Passed to the fit, as `normalise=`, `per=`, `erase_variant=`, `c=`, `restarts=`, …. A method of your own takes
            those of the normalisation.

    Returns:
        The probes by layer; their scores are above 0 where the positive variant is held true.

    Raises:
        UnknownName: No such method.
        OneClass: The target has one class in these rows.
        BadInput: Too few rows or groups for the folds; or what a method of your own returned cannot be read.

    Example:
        >>> import numpy as np, pandas as pd, torch, workbench as wb
        >>> def medians(x_positive, x_negative, seed):
        ...     return x_positive.median(0).values - x_negative.median(0).values
        >>> labels = np.arange(60) % 2
        >>> values = torch.randn(60, 2, 1, 8, generator=torch.Generator().manual_seed(0))
        >>> values[range(60), labels, 0, 3] += 4  # the true variant is longer along dimension 3
        >>> rows = pd.DataFrame({"identity": np.arange(60) // 2, "label": labels})
        >>> acts = wb.Activations(values=values, layers=[0], site="resid_post", position="last", rows=rows)
        >>> fit = wb.probes.fit_layers(acts, medians)
        >>> fit.method, int(fit.probes[0].vector.argmax())
        ('medians', 3)
    """
    name = name_of(method)
    y = column(acts, target)
    if len(np.unique(y)) < 2:
        raise OneClass(f"all {len(y)} training rows have {target} {y[0]}: a probe needs both classes")
    forms = options.get("per") == "template"
    if forms:
        options["groups"] = acts.rows["template"].tolist()
    facts: dict[str, Any] = {"method": name, "target": target, "condition": condition, "forms": forms}
    if not is_supervised(method):
        return Fit(probes=_without_labels(acts, method, name, y, target, condition, seed, options), **facts)
    fit = fitter(acts, method, name, options, folds, by, seed)
    slopes, validation = {}, {}
    if validate:
        kept = {k: v for k, v in options.items() if k not in ("folds", "groups", "seed")}
        slopes, validation = _validated(acts, method, seed=seed, by=by, target=target, condition=condition, folds=min(folds, 3), **kept)
    probes, paired = {}, is_paired(acts)
    for layer in acts.layers:
        x = acts.layer(layer)
        both = (x[:, 1], x[:, 0]) if paired else (x[:, 0], None)
        probes[layer] = remembered(partial(fit, *both, y, **options), method, x, paired, y, options)
    return Fit(probes=probes, slopes=slopes, validation=validation, **facts)


def fitter(
    acts: Activations, method: Method, name: str, options: dict[str, Any], folds: int, by: Sequence[str] = BY, seed: int = 0
) -> Callable[..., Probe]:
    """Return the fit of a supervised method; sets what it needs (seed, strengths, folds) in the options."""
    if not isinstance(method, str):
        assert not isinstance(method, Loss)
        options["seed"] = seed
        return partial(fit_custom, method, name)
    if name in NONLINEAR:
        options["seed"] = seed
    elif name in TUNED:
        # a hinge without much of a penalty has a flat bottom that Newton crawls along, and gains nothing there
        options.setdefault("c", STRENGTHS[:6] if name == "svm" else STRENGTHS)
    if name in NONLINEAR or (name in TUNED and np.ndim(options["c"]) > 0):
        options.setdefault("folds", grouped_folds(acts.rows, folds, by=[c for c in by if c in acts.rows], seed=seed))
    return LINEAR[name] if name in LINEAR else NONLINEAR[name]


def _validated(
    acts: Activations, method: Method, *, seed: int, by: Sequence[str], target: str, **how: Any
) -> tuple[dict[int, float], dict[int, float]]:
    """By layer: the slope of probabilities and the accuracy, on validation rows of a fit on the other training rows."""
    side = grouped_split(acts.rows, by=[c for c in by if c in acts.rows], seed=seed + 1).side(acts.rows)
    part, rest = acts.subset(side == "train"), acts.subset(side == "test")
    fit = fit_layers(part, method, target=target, by=by, seed=seed, **how)
    y = column(rest, target)
    slopes, accuracies = {}, {}
    for layer in acts.layers:
        scores = fit.scores(rest, layer)
        accuracies[layer] = float(((scores > 0) == y).mean())
        slopes[layer] = platt(scores, y)
    return slopes, accuracies


def _without_labels(
    acts: Activations,
    method: Method,
    name: str,
    y: Int[np.ndarray, " item"],
    target: str,
    condition: str,
    seed: int,
    options: dict[str, Any],
) -> dict[int, ContrastProbe]:
    """Search on every layer; labels are used for the sign alone, once a search is over."""
    if not is_paired(acts):
        raise BadInput(f"{name!r} searches among contrast pairs, and these are {single_rows(acts)}")
    rows = f"training rows of condition {condition!r}, by column {target!r}"
    if name == "vinc" and "items" not in options and "statement" in acts.rows and acts.rows["statement"].duplicated().any():
        options["items"] = acts.rows["statement"].to_numpy()
    if name == "polarity_ccs":
        options.setdefault("opposite", opposites(acts.rows))
    search = search_of(method)
    probes = {}
    for layer in acts.layers:
        x = acts.layer(layer)
        result = remembered(partial(search, x[:, 1], x[:, 0], seed=seed, **options), method, x, seed, options)
        # the search is over; from here on only the sign is in question
        probes[layer] = replace(resolve_sign(result, x, y, rows=rows, groups=options.get("groups")), method=name)
    return probes


def search_of(method: Method) -> Callable[..., ContrastProbe]:
    """Return the search that a method without labels stands for, a function of (positive, negative, **options)."""
    if not isinstance(method, str):
        return partial(fit_contrast, loss=method)
    base, _, body = method.partition(":")
    return partial(UNSUPERVISED[base], body=body) if body else UNSUPERVISED[base]
