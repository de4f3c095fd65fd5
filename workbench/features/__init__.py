"""What a direction is made of: toy models of superposition, dictionaries, decomposition, lenses with parameters."""

from .dictionary import Dictionary
from .streams import Streams, read_streams, split_texts
from .toys import Toy, TrainedToys, crossed, train_toys
from .training import fit_dictionary, train_dictionary

__all__ = [
    "Dictionary",
    "Streams",
    "Toy",
    "TrainedToys",
    "crossed",
    "fit_dictionary",
    "read_streams",
    "split_texts",
    "train_dictionary",
    "train_toys",
]
