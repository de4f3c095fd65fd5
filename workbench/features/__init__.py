"""What a direction is made of: toy models of superposition, dictionaries, decomposition, lenses with parameters."""

from .decompose import Decomposition, decompose, side_by_side
from .dictionary import Dictionary
from .recovery import f1, matched
from .resampled import bootstrap_directions, shuffled_directions
from .streams import Streams, read_streams, split_texts
from .toys import Toy, TrainedToys, crossed, train_toys
from .training import fit_dictionary, train_dictionary

__all__ = [
    "Decomposition",
    "Dictionary",
    "Streams",
    "Toy",
    "TrainedToys",
    "bootstrap_directions",
    "crossed",
    "decompose",
    "f1",
    "fit_dictionary",
    "matched",
    "read_streams",
    "shuffled_directions",
    "side_by_side",
    "split_texts",
    "train_dictionary",
    "train_toys",
]
