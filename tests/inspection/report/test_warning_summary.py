"""Warnings of the models that a report fits."""

import warnings

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline

from tests.helpers.reports import both, quiet, small_network


class Talkative(LogisticRegression):
    """Warns as networks of texts do, of rows by their place in a fold."""

    def fit(self, X, y):
        text = f"{len(X) - 20} of {len(X)} texts are long: X[3] (9 tokens), X[5] (7 tokens)"
        warnings.warn(text, stacklevel=2)
        warnings.warn("the same each time", stacklevel=2)
        return super().fit(X, y)


def test_a_warning_of_each_fold_is_shown_once_without_places_in_the_fold(digits):
    made = quiet(make_pipeline(small_network(), Talkative()), *both(digits), cv=KFold(3))
    with pytest.warns(UserWarning, match="texts are long|the same each time") as caught:
        made.to_html()
    # Two folds train on 27 rows, one on 26, and the model to look into on all 40.
    assert [str(each.message) for each in caught] == [
        "20 of 40 texts are long (counted over the part of X where it is most)",
        "the same each time",
    ]
    assert {each.filename for each in caught} == {__file__}
