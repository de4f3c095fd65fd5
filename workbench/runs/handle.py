"""A model that a study is given: described at once, loaded on demand, and inside a step only.

What a study needs for planning (tokens, sizes, names, what is planted) is read from the handle. Weights are read when a step that is not
cached asks for them: a plan and a finished run load nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import BadInput, OutsideStep, UnknownName, WrongModel, unknown
from ..models import info, load_model, untrained_copy
from ..models.hooks import active_edits, foreign_hooks
from ..models.known import Described, ModelInfo, folder_of
from ..models.outline import outline

if TYPE_CHECKING:
    from .cache import Cache

_INSIDE: ContextVar[bool] = ContextVar("workbench_inside_a_step", default=False)


@contextmanager
def inside_step(doing: str = "") -> Iterator[None]:
    """Let handles load their models: the engine does, around the `make` of a step.

    Args:
        doing: The step: an error is given a note that names it.
    """
    token = _INSIDE.set(True)
    try:
        yield
    except Exception as error:
        error.add_note(f"in the step {doing!r}; the steps before it are cached: run the study again when it is mended")
        raise
    finally:
        _INSIDE.reset(token)


def is_inside_step() -> bool:
    """Whether a step is being computed."""
    return _INSIDE.get()


class ModelHandle(Described):
    """A model of a run.

    Attributes:
        given: By which it was named; `None` for a model that was given loaded.
        info: What identifies it and what limits it.
        tokenizer: Its tokenizer.
        folder: The folder it lies in, if it lies in one.
        size: Number of parameters.
        key: What its results hang on, for keys of steps.
    """

    def __init__(self, given: str | None, known: ModelInfo, *, tokenizer: Any, folder: Path | None, size: int, model: Any = None) -> None:
        self.given, self.info, self.tokenizer, self.folder, self.size = given, known, tokenizer, folder, size
        self._model = model
        self._parent: ModelHandle | None = None
        self._made: tuple[Any, Callable[[Any], Any]] = (None, lambda model: model)

    @property
    def key(self) -> dict[str, Any]:
        """What results of this model hang on: name, digest of the weights, dtype, processing, vocabulary."""
        if self._parent is not None:
            return self._parent.key | {"made": self._made[0]}
        return self.info.key()

    @property
    def configured(self) -> bool:
        """Whether it carries a Hugging Face configuration, from which an untrained copy can be built."""
        if self._model is None or self.given is not None:
            return True
        return getattr(getattr(self._model, "original_model", None), "config", None) is not None

    @property
    def loaded(self) -> bool:
        """Whether its weights are in memory."""
        return self._model is not None

    def load(self) -> Any:
        """Return the model, loaded now or before.

        Raises:
            OutsideStep: No step is running.
            WrongModel: The weights are not those that the run began with.
        """
        if not _INSIDE.get():
            raise OutsideStep(
                f"{self.info.name}: a study loads a model inside a step only. Do it in the make= of run.table, run.activations or "
                "run.folder"
            )
        if self._model is None and self._parent is not None:
            self._model = self._made[1](self._parent.load())
        elif self._model is None:
            model = load_model(self.given)
            if info(model).key() != self.info.key():
                raise WrongModel(f"{self.info.name} is not what it was when the run began: its files were replaced. Run it again")
            self._model = model
        return self._model

    def untrained(self, seed: int = 0) -> ModelHandle:
        """Return a handle of a copy with the same architecture and tokenizer whose weights are drawn anew: a control.

        Args:
            seed: Draws the weights.

        Returns:
            The handle. Its key is that of this model, the word "untrained" and the seed.

        Raises:
            BadInput: The model carries no Hugging Face configuration.
        """
        if not self.configured:
            raise BadInput(f"{self.info.name} carries no Hugging Face configuration, so no untrained copy can be built of it")
        return self.derived("untrained", seed, lambda model: untrained_copy(model, seed=seed), weights="drawn at random")

    def derived(self, name: str, key: Any, make: Callable[[Any], Any], *, weights: str = "") -> ModelHandle:
        """Return a handle of a model that is made of this one when a step first loads it: with a change merged into its weights, say.

        Args:
            name: What was done to it; the handle's name is "MODEL (NAME)".
            key: Everything that decides the weights beside this model's, JSON-like.
            make: Makes it of this model, loaded; this model must stay as it is.
            weights: Where its weights come from, in words.

        Returns:
            The handle. Its key is that of this model, the name and the key; architecture and tokenizer are this model's.
        """
        known = replace(self.info, name=f"{self.info.name} ({name})", weights=weights)
        out = ModelHandle(self.given, known, tokenizer=self.tokenizer, folder=None, size=self.size)
        out._parent, out._made = self, ([name, key], make)
        return out

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"{name}: this is a handle of a model and not the model; use handle.load(), in the make= of a step")

    def record(self) -> dict[str, Any]:
        """Return what a run's record says of it."""
        return {
            "given": self.given,
            **self.info.key(),
            "layers": self.info.n_layers,
            "size": self.size,
            "weights": self.info.weights,
        }

    def __repr__(self) -> str:
        return f"ModelHandle({self.info.name}, {'loaded' if self.loaded else 'not loaded'})"


def of_loaded(model: Any) -> ModelHandle:
    """Return the handle of a model that is loaded.

    Args:
        model: What `load_model` returns.

    Returns:
        Its handle.

    Raises:
        BadInput: This is no model, or there are edits or hooks on it: a cache knows weights and not edits.
    """
    known = info(model)
    if active_edits(model) or foreign_hooks(model):
        raise BadInput("a study's cache does not know edits: run it outside `edited` and without hooks of your own")
    return ModelHandle(
        None, known, tokenizer=model.tokenizer, folder=folder_of(model), size=sum(p.numel() for p in model.parameters()), model=model
    )


def handle_of(given: Any, cache: Cache, *, identify: bool = True) -> ModelHandle:
    """Return the handle of a model.

    The digest of a model's weights is kept in the cache by the content of its files: a model that was once loaded is known again without
    being loaded.

    Args:
        given: Anything that `load_model` takes, or a handle.
        cache: Where digests are kept.
        identify: Load the model where the cache does not know its digest. Without this the digest reads "unread", which no cached step has.

    Returns:
        The handle.

    Raises:
        UnknownModel, NotFetched, QuantisedModel, DamagedModel, MissingTokenizer, NetworkNeeded, GatedModel, OutOfMemory: As for
            `load_model`.
    """
    if isinstance(given, ModelHandle):
        return given
    if not isinstance(given, str | Path):
        return of_loaded(given)
    known = outline(str(given))
    remembered = _remembered(cache, known.content)
    if remembered is not None:
        whole, size = remembered
        return ModelHandle(str(given), whole, tokenizer=known.tokenizer, folder=known.folder, size=size)
    if not identify:
        return ModelHandle(str(given), known.info, tokenizer=known.tokenizer, folder=known.folder, size=known.size)
    model = load_model(str(given))
    whole, size = info(model), sum(p.numel() for p in model.parameters())
    cache.remember(known.content, {"info": asdict(whole), "size": size})
    return ModelHandle(str(given), whole, tokenizer=model.tokenizer, folder=known.folder, size=size, model=model)


def _remembered(cache: Cache, content: str) -> tuple[ModelInfo, int] | None:
    entry = cache.recall(content)
    try:
        return ModelInfo(**entry["info"] | {"first": tuple(entry["info"]["first"])}), int(entry["size"])  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        return None


def handles(given: Mapping[str, Any], cache: Cache, *, identify: bool = True) -> dict[str, ModelHandle]:
    """Return the handles of a run's models by role; one model in two roles is one handle.

    Args:
        given: What each role is given.
        cache: As for `handle_of`.
        identify: As for `handle_of`.

    Returns:
        A handle for each role.
    """
    known: dict[Any, ModelHandle] = {}
    out = Roles()
    for role, one in given.items():
        name = str(one) if isinstance(one, str | Path) else id(one)
        if name not in known:
            known[name] = handle_of(one, cache, identify=identify)
        out[role] = known[name]
    return out


class Roles(dict[str, ModelHandle]):
    """Models by role: `models["weak"]` or `models.weak`."""

    def __missing__(self, role: str) -> ModelHandle:
        raise unknown(UnknownName, "role of a model", role, self)

    def __getattr__(self, role: str) -> ModelHandle:
        if role in self:
            return self[role]
        raise AttributeError(f"no model in the role {role!r}; the study takes: {', '.join(self) or 'none'}")
