"""A control without a model: is the answer simply in the words?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ..core.types import Float
from .scaling import two_classes


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
    y = two_classes(labels, len(train))
    model = make_pipeline(CountVectorizer(ngram_range=(1, ngrams)), LogisticRegression(max_iter=2000))
    model.fit(list(train), y)
    return model.decision_function(list(test))
