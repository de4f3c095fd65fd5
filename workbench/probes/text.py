"""Controls without a model: is the answer simply in the words?

The bag of words knows which words stand in a text. Runs of words and of letters also know their order at short range, and the mean of the
model's own token embeddings knows which words are alike. The last two are tuned as probes are: by cross-validation over identities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from ..core.text_controls import TEXT_CONTROLS
from ..core.types import Float
from .scaling import two_classes

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
FOLDS = 5
Scorer = Callable[[Sequence[str]], Float[np.ndarray, " text"]]


def bag_of_words(train: Sequence[str], labels: ArrayLike, test: Sequence[str], *, ngrams: int = 1) -> Float[np.ndarray, " text"]:
    """Return the log-odds that a logistic classifier on word counts gives to test texts.

    Args:
        train: Training texts.
        labels: Label of each training text, 0 or 1; both must occur.
        test: Texts to score.
        ngrams: Longest run of words that counts as a feature, 1 or more; with 2 it sees "not denied" as one.

    Returns:
        One log-odds per test text; above 0 means label 1.

    Raises:
        ShapeMismatch, BadInput, OneClass: The labels do not serve.
    """
    return _counted(train, two_classes(labels, len(train)), ngrams)(test)


def text_scorers(
    train: Sequence[str],
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    names: Sequence[str] = TEXT_CONTROLS,
    vectors: Mapping[str, Float[np.ndarray, " d_model"]] | None = None,
) -> Iterator[tuple[str, Scorer]]:
    """Yield classifiers of texts by name: what the words alone say of the label.

    Args:
        train: Training texts.
        labels: Label of each training text, 0 or 1; both must occur.
        groups: Group of each text, as its identity; texts of a group are in one fold when the penalty is chosen.
        names: Any of "bag_of_words" (word counts), "ngrams" (runs of up to 3 words and of up to 3 letters, TF-IDF) and "token_embeddings"
            (the mean embedding of the text's tokens; left out without `vectors`).
        vectors: Of every text, also of those to score: from `models.mean_embeddings`.

    Yields:
        The name, and a function from texts to log-odds; above 0 means label 1.

    Raises:
        ShapeMismatch, BadInput, OneClass: The labels do not serve.
    """
    y = two_classes(labels, len(train))
    for name in names:
        if name == "bag_of_words":
            yield name, _counted(train, y, 1)
        elif name == "ngrams":
            letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True)
            runs = make_union(TfidfVectorizer(ngram_range=(1, 3), sublinear_tf=True), letters).fit(list(train))
            model = LogisticRegression(solver="liblinear", max_iter=1000, random_state=0)
            yield name, _tuned(model, lambda texts, runs=runs: runs.transform(list(texts)), train, y, groups)
        elif vectors is not None:
            yield name, _tuned(LogisticRegression(max_iter=1000), _placed(vectors, train), train, y, groups)


def _counted(train: Sequence[str], y: np.ndarray, ngrams: int) -> Scorer:
    model = make_pipeline(CountVectorizer(ngram_range=(1, ngrams)), LogisticRegression(max_iter=2000)).fit(list(train), y)
    return lambda texts: model.decision_function(list(texts))


def _placed(vectors: Mapping[str, Float[np.ndarray, " d_model"]], train: Sequence[str]) -> Callable[[Sequence[str]], Any]:
    scale = StandardScaler().fit(np.stack([vectors[t] for t in train]))
    return lambda texts: scale.transform(np.stack([vectors[t] for t in texts]))


def _tuned(model: Any, turn: Callable[[Sequence[str]], Any], train: Sequence[str], y: np.ndarray, groups: ArrayLike | None) -> Scorer:
    """The penalty that held-out groups prefer; the middle one where there are too few groups of both classes."""
    x, names = turn(train), np.arange(len(y)) if groups is None else np.asarray(groups)
    folds = min(FOLDS, len(np.unique(names)))
    parts = list(GroupKFold(folds).split(x, y, names)) if folds > 1 else []
    if parts and all(len(np.unique(y[kept])) == 2 for kept, _ in parts):
        model = GridSearchCV(model, {"C": STRENGTHS}, cv=parts)
    fitted = model.fit(x, y)
    return lambda texts: fitted.decision_function(turn(texts))
