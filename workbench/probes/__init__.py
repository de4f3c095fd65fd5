"""Probes: tensors in, frozen results out; and the protocol that fits and reads them honestly."""

from .ccs import CCSProbe, fit_ccs, fit_ccs_layers, resolve_sign
from .linear import LinearProbe, fit_logistic, fit_mass_mean
from .protocol import Fit, accuracy_by, fit_layers, probe_layers
from .text import bag_of_words

__all__ = [
    "CCSProbe", "Fit", "LinearProbe", "accuracy_by", "bag_of_words", "fit_ccs", "fit_ccs_layers", "fit_layers",
    "fit_logistic", "fit_mass_mean", "probe_layers", "resolve_sign",
]  # fmt: skip
