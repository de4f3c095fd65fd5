"""Typed errors. Each says what was asked, what exists and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from . import notebook
from .show import visible


def whole_traceback(show: bool = True) -> None:
    """Show errors of the workbench in notebooks with every frame, or in short form again.

    Afterwards `%tb` shows the last error again. `%tb Plain`, `%tb Verbose` and `%xmode` with either show whole tracebacks without
    this function. Outside IPython, tracebacks are always whole.

    Args:
        show: `True` for every frame, `False` for the short form.
    """
    notebook.WHOLE = show


class WorkbenchError(Exception):
    """Base of every error that the workbench raises on purpose."""

    def __str__(self) -> str:
        """Return the message; what cannot be seen but acts on a terminal, in a name or a file that it quotes, is written out."""
        return visible(super().__str__())

    @property
    def _render_traceback_(self) -> Callable[[], list[str]]:
        """What IPython shows of an error, if it has this; without it (`AttributeError`) the whole traceback."""
        if notebook.whole_wanted():
            raise AttributeError("_render_traceback_")
        return lambda: notebook.short_traceback(self)


class BadInput(WorkbenchError, ValueError):
    """An argument cannot be used as given; nothing expensive has run yet."""


class UnknownName(BadInput):
    """A name that does not exist among a stated set of names."""


class UnknownModel(UnknownName):
    """No bundled model, folder or hub repository of this name."""


class NotFetched(UnknownModel):
    """A model that the project can fetch (`workbench get NAME`), and that is not here yet."""


class UnknownStudy(UnknownName):
    """No study of this name."""


class UnknownTemplate(UnknownName):
    """No prompt template of this name."""


class UnknownClaim(UnknownName):
    """No claim of this name."""


class UnknownSite(UnknownName):
    """No such place inside a block (`resid_post`, `attn_out`, …)."""


class UnknownPosition(UnknownName):
    """No such way of choosing token positions."""


class UnknownLayer(BadInput):
    """A layer that the model does not have."""


class EmptyPromptSet(BadInput):
    """A prompt set without items."""


class TemplateField(BadInput):
    """A template names a field that does not exist, or lacks one that it needs."""


class MissingColumn(BadInput):
    """A table lacks a column that was asked for."""


class PromptTooLong(BadInput):
    """A prompt does not fit the model's context."""


class TokenBoundary(BadInput):
    """A continuation merges with its stem into other tokens, so that the two cannot be told apart."""


class ControlToken(BadInput):
    """A text that a tokenizer would read as a control token (`<|im_end|>`), where text is meant."""


class AnswerTokens(BadInput):
    """Answer strings that are not single, distinct tokens of this tokenizer."""


class OneClass(BadInput):
    """Labels that are all of one class."""


class FlippedLabels(BadInput):
    """Labels of one part of the rows that say the opposite of the rest."""


class ShapeMismatch(BadInput):
    """Arrays whose shapes do not belong together."""


class NotFinite(BadInput):
    """NaN or infinity where numbers are needed."""


class Overflow(NotFinite):
    """Numbers that are finite in the model but not in the dtype that they should be kept in."""


class TooFew(BadInput):
    """Fewer rows or clusters than the estimate needs."""


class SharedRows(BadInput):
    """Rows that enter two quantities which should be independent, where the caller does not say so."""


class ZeroDirection(BadInput):
    """A direction without length."""


class EmptyScope(BadInput):
    """A choice of tokens that selects none, or that needs something which the batch does not have."""


class Alignment(BadInput):
    """Two prompts whose tokens cannot be laid beside each other."""


class SplitLeak(BadInput):
    """A group that would stand on both sides of a split."""


class OutputFolder(BadInput):
    """An output folder that holds something else."""


class DamagedModel(WorkbenchError):
    """A model folder that cannot be read as a model."""


class QuantisedModel(WorkbenchError):
    """Quantised weights that cannot be read as plain numbers here."""


class DamagedStore(WorkbenchError):
    """An activation folder that cannot be read, or lacks what its manifest lists."""


class DamagedRun(WorkbenchError):
    """A run folder that cannot be read, or lacks what its record lists."""


class AlteredRun(DamagedRun, UserWarning):
    """Tables or words of a run that are not what it wrote. Given as a warning where the run can still be read."""


class WrongModel(WorkbenchError):
    """Activations or a direction of another model, dtype or weight-processing mode."""


class DiskFull(WorkbenchError):
    """No room to write what was computed; what was written before is whole."""


class NetworkNeeded(WorkbenchError):
    """A download is needed and the network cannot be reached."""


class GatedModel(WorkbenchError):
    """A hub repository that asks for a licence or a token."""


class OutOfMemory(WorkbenchError):
    """The model or the batch does not fit."""


class MissingTokenizer(WorkbenchError):
    """A model without a usable tokenizer."""


class HookNotFired(WorkbenchError):
    """An edit or a read that did not fire as often as it should have."""


class NoEffect(WorkbenchError):
    """An adapter does not change what the model says."""


class FailedOrganism(WorkbenchError):
    """A model organism does not show what was planted in it, or shows it where it was not planted."""


class Diverged(WorkbenchError):
    """A training went to NaN or infinity; its last good state is kept."""


class ModelInUse(WorkbenchError):
    """Another thread has changed the model's weights, or is in a forward pass of it, at this moment."""


class UntrustedCode(WorkbenchError):
    """A model or tokenizer that could only be read by code that comes with it."""


class Disagrees(WorkbenchError):
    """A way to run a model that gives other numbers than Hugging Face's own forward pass."""


class WorkerLost(WorkbenchError):
    """Worker processes that died again and again."""


class OutsideStep(WorkbenchError):
    """A study asked for a model outside a step: what it would compute there could be neither planned nor cached."""


class BrokenStudy(WorkbenchError):
    """A study cannot be loaded, or does not keep the contract of studies (`check_study`)."""


class MissingTool(WorkbenchError):
    """A program outside Python that is needed for this step (for example Chrome for png files)."""


def unknown(error: type[UnknownName], kind: str, asked: object, options: Iterable[str]) -> UnknownName:
    """Build an error for a name that does not exist, with the names that do and the nearest one.

    Args:
        error: The class to build.
        kind: What the name names, in the singular ("template").
        asked: What was asked for.
        options: What exists.

    Returns:
        The error, ready to raise.
    """
    names = sorted(options)
    text = f"no {kind} named {asked!r}. There {'is' if len(names) == 1 else 'are'}: {', '.join(names) or 'none'}."
    near = difflib.get_close_matches(str(asked), names, n=1)
    return error(text + (f" Did you mean {near[0]!r}?" if near else ""))
