"""Probes: tensors in, frozen results out; and the protocol that fits and reads them honestly."""

from .calibration import brier, calibration_error, platt, reliability
from .ccs import ContrastProbe, fit_ccs, fit_ccs_layers, fit_contrast, resolve_sign
from .change import change_point
from .classes import ClassProbe, fit_multiclass, fit_multilabel
from .controls import selectivity
from .custom import CustomProbe
from .efficiency import sample_efficiency, smallest
from .eigen import contrast_spectrum, fit_drc, fit_rrc
from .forms import read_forms
from .honesty import HonestyPanel, ccs_honesty
from .linear import fit_difference_in_means, fit_lda, fit_logistic, fit_mass_mean, fit_ridge, fit_svm
from .linear_probe import LinearProbe
from .losses import LOSSES, Loss
from .methods import METHODS, Fit, fit_layers
from .nonlinear import NonlinearProbe, fit_knn, fit_mlp, fit_quadratic, fit_rbf
from .options import CONTROLS, Controls, Resampling
from .polarity import fit_polarity_ccs, has_opposites, opposites, polarity_consistency
from .protocol import accuracy_by, best_layers, probe_layers
from .surfaces import read_surfaces
from .tamper import TamperDetector, fit_tamper, roc_curve, tamper_roc, tamper_score
from .text import bag_of_words, text_scorers
from .transfer import transfer_matrix
from .unsupervised import fit_crc, fit_kmeans, fit_vinc
from .weak_labels import STUDENT_LOSSES, fit_weak_labels

__all__ = [
    "CONTROLS",
    "LOSSES",
    "METHODS",
    "STUDENT_LOSSES",
    "ClassProbe",
    "ContrastProbe",
    "Controls",
    "CustomProbe",
    "Fit",
    "HonestyPanel",
    "LinearProbe",
    "Loss",
    "NonlinearProbe",
    "Resampling",
    "TamperDetector",
    "accuracy_by",
    "bag_of_words",
    "text_scorers",
    "best_layers",
    "brier",
    "calibration_error",
    "ccs_honesty",
    "change_point",
    "contrast_spectrum",
    "fit_ccs",
    "fit_ccs_layers",
    "fit_contrast",
    "fit_crc",
    "fit_difference_in_means",
    "fit_drc",
    "fit_kmeans",
    "fit_knn",
    "fit_layers",
    "fit_lda",
    "fit_logistic",
    "fit_mass_mean",
    "fit_mlp",
    "fit_multiclass",
    "fit_multilabel",
    "fit_polarity_ccs",
    "fit_quadratic",
    "fit_rbf",
    "fit_ridge",
    "fit_rrc",
    "fit_svm",
    "fit_tamper",
    "fit_vinc",
    "fit_weak_labels",
    "has_opposites",
    "opposites",
    "platt",
    "polarity_consistency",
    "probe_layers",
    "read_forms",
    "read_surfaces",
    "reliability",
    "resolve_sign",
    "roc_curve",
    "sample_efficiency",
    "selectivity",
    "smallest",
    "tamper_roc",
    "tamper_score",
    "transfer_matrix",
]
