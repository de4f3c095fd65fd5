"""Directions: how they are extracted, how they lie to each other, what is left when one is erased. Tensors in, frozen results out."""

from ..core.direction import Direction
from .cells import Cells
from .compare import compare_directions
from .efficiency import direction_efficiency
from .erasure import ERASERS, erase_and_reprobe, fit_eraser
from .extract import extract_direction, from_statistics, head_directions, optimise_direction
from .factorial import FactorialReport, factorial_geometry
from .geometry import between
from .methods import METHODS
from .metrics import METRICS, Metric, causal_metric
from .power import geometry_power, plant
from .report import VERDICTS, GeometryReport, table_of, verdict
from .sample import Sample, place_of, sample
from .similarity import compare_spaces, linear_cka, mutual_knn
from .spaces import SpaceMap, carried, fit_map
from .subspace import SubspaceReport, compare_subspaces

__all__ = [
    "ERASERS",
    "METHODS",
    "METRICS",
    "VERDICTS",
    "Cells",
    "Direction",
    "FactorialReport",
    "GeometryReport",
    "Metric",
    "Sample",
    "SpaceMap",
    "SubspaceReport",
    "between",
    "carried",
    "causal_metric",
    "compare_directions",
    "compare_spaces",
    "compare_subspaces",
    "direction_efficiency",
    "erase_and_reprobe",
    "extract_direction",
    "factorial_geometry",
    "fit_eraser",
    "fit_map",
    "from_statistics",
    "geometry_power",
    "head_directions",
    "linear_cka",
    "mutual_knn",
    "optimise_direction",
    "place_of",
    "plant",
    "sample",
    "table_of",
    "verdict",
]
