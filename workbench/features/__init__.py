"""What a direction is made of: toy models of superposition, dictionaries, decomposition, lenses with parameters."""

from .by_layer import lens, made_lens, read_answers
from .corpus import corpus
from .decompose import Decomposition, decompose, side_by_side
from .dictionary import Dictionary
from .jacobian import fit_jacobian_lens
from .lenses import Lens
from .looking import latent_tokens, top_contexts
from .making import make_dictionary
from .pages import latent_tables, write_latents
from .quality import quality_table, splice
from .recovery import f1, matched
from .resampled import bootstrap_directions, shuffled_directions
from .sparse_probes import Labelled, sparse_probes
from .streams import Streams, read_streams, split_texts, streams_of
from .toys import Toy, TrainedToys, crossed, train_toys
from .training import fit_dictionary, train_dictionary
from .tuned import train_tuned_lens

__all__ = [
    "Decomposition",
    "Dictionary",
    "Labelled",
    "Lens",
    "Streams",
    "Toy",
    "TrainedToys",
    "bootstrap_directions",
    "corpus",
    "crossed",
    "decompose",
    "f1",
    "fit_dictionary",
    "fit_jacobian_lens",
    "latent_tables",
    "latent_tokens",
    "lens",
    "made_lens",
    "make_dictionary",
    "matched",
    "quality_table",
    "read_answers",
    "read_streams",
    "shuffled_directions",
    "side_by_side",
    "sparse_probes",
    "splice",
    "split_texts",
    "streams_of",
    "top_contexts",
    "train_dictionary",
    "train_toys",
    "train_tuned_lens",
    "write_latents",
]
