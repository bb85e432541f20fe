"""PretrainedTextFeatures against scikit-learn's rules: its own checks, and a contract for texts.

`check_estimator` knows no text inputs and runs next to nothing on an estimator that takes only
those; what it would ask is asked here, on texts.
"""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

from sktransfer import FineTune, PretrainedTextFeatures
from tests.helpers.languages import LABELS, TEXTS, write_language


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_language(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def features(folder):
    return PretrainedTextFeatures(folder, engine="torch")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:Can't test estimator PretrainedTextFeatures")
def test_check_estimator_passes_what_it_asks_of_texts(features):
    results = check_estimator(features, on_skip=None, on_fail=None)
    assert [(r["check_name"], r["status"]) for r in results if r["status"] != "passed"] == []
    # Those on tables are left out: this suite stands for them.
    asked = [getattr(c, "func", c).__name__ for _, c in estimator_checks_generator(features)]
    assert len(results) == len(asked)


def test_tags_say_texts(features):
    tags = get_tags(features)
    assert (tags.input_tags.string, tags.input_tags.two_d_array) == (True, False)
    assert not tags.input_tags.allow_nan
    assert not tags.target_tags.required
    assert get_tags(features.set_params(strategy=FineTune())).target_tags.required
    assert get_tags(PretrainedTextFeatures(layer="auto")).target_tags.required
    assert get_tags(PretrainedTextFeatures(on_error="nan")).input_tags.allow_nan


def test_init_only_assigns_and_parameters_survive_cloning():
    given = {"backbone": "no such thing", "layer": (1, 2), "pooling": ["mean"], "cache": ""}
    estimator = PretrainedTextFeatures(**given)
    for name, value in given.items():
        assert getattr(estimator, name) is value
    copied = clone(estimator)
    assert copied.get_params() == estimator.get_params()
    assert repr(copied) == repr(estimator)
    assert vars(estimator).keys() == estimator.get_params().keys()


def test_fit_changes_no_parameter_and_returns_the_estimator(features):
    before = copy.deepcopy(features.get_params())
    assert features.fit(TEXTS) is features
    assert features.get_params() == before


def test_before_fit_everything_says_so(features):
    for call in (lambda: features.transform(TEXTS), features.get_feature_names_out):
        with pytest.raises(NotFittedError):
            call()


def test_transform_changes_nothing_but_counts(features):
    features.fit(TEXTS).transform(TEXTS)
    before = dict(vars(features))
    features.transform(TEXTS[:3])
    assert dict(vars(features)) == before


@pytest.mark.slow
def test_a_failed_fit_leaves_the_estimator_as_it_was(features):
    backbone = features.backbone
    expected = features.fit(TEXTS).transform(TEXTS)
    for wrong in ({"layer": 7}, {"pooling": "none"}, {"backbone": "/no/such/folder"}):
        with pytest.raises((ValueError, FileNotFoundError)):
            features.set_params(**wrong).fit(TEXTS[:2])
        features.set_params(layer="last", pooling="auto", backbone=backbone)
        assert_array_equal(features.transform(TEXTS), expected)


def test_fitting_again_on_other_texts_gives_the_same_features(features):
    expected = features.fit(TEXTS).transform(TEXTS)
    assert_array_equal(features.fit(TEXTS[:1]).transform(TEXTS), expected)
    assert_array_equal(features.fit_transform(TEXTS), expected)


def test_input_is_never_written_to(features):
    for X in (list(TEXTS), np.array(TEXTS, dtype=object), pd.Series(TEXTS)):
        before = copy.deepcopy(X)
        features.fit(X).transform(X)
        assert list(X) == list(before)
    read_only = np.array(TEXTS)
    read_only.flags.writeable = False
    features.fit(read_only).transform(read_only)


def test_rows_may_come_in_any_order_and_number(features):
    features.fit(TEXTS)
    whole = features.transform(TEXTS)
    order = np.random.RandomState(1).permutation(len(TEXTS))
    assert_allclose(features.transform(np.array(TEXTS)[order]), whole[order], atol=1e-6)
    parts = [features.transform(TEXTS[i : i + 3]) for i in range(0, len(TEXTS), 3)]
    assert_allclose(np.vstack(parts), whole, atol=1e-6)


def test_features_are_float32_and_have_as_many_distinct_names(features):
    for how in ({}, {"layer": (0, 2)}, {"pooling": "max+cls"}, {"layer": (1, 2), "combine": "sum"}):
        found = features.set_params(**{"layer": "last", "pooling": "mean", **how}).fit(TEXTS)
        table = found.transform(TEXTS)
        names = found.get_feature_names_out()
        assert table.dtype == np.float32
        assert table.flags.c_contiguous
        assert names.dtype == object
        assert len(set(names)) == table.shape[1]


def test_pickles_before_and_after_fit_behave_the_same(features):
    expected = features.fit(TEXTS).transform(TEXTS)
    assert_array_equal(pickle.loads(pickle.dumps(features)).transform(TEXTS), expected)
    again = pickle.loads(pickle.dumps(clone(features))).fit(TEXTS)
    assert_array_equal(again.transform(TEXTS), expected)
    assert_array_equal(copy.deepcopy(features).transform(TEXTS), expected)


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_output_can_be_a_table_with_names(container, features):
    module = {"pandas": pd, "polars": pl}[container]
    plain = features.fit(TEXTS).transform(TEXTS)
    names = list(features.get_feature_names_out())
    table = features.set_output(transform=container).transform(TEXTS)
    assert isinstance(table, module.DataFrame)
    assert list(table.columns) == names
    assert_array_equal(table.to_numpy(), plain)
    with sklearn.config_context(transform_output=container):
        assert isinstance(clone(features).fit_transform(TEXTS), module.DataFrame)


def test_a_table_of_texts_keeps_its_index(features):
    X = pd.DataFrame({"text": TEXTS}, index=list("hgfedcba"))
    table = features.set_output(transform="pandas").fit_transform(X)
    assert list(table.index) == list("hgfedcba")


def test_it_stands_in_pipelines_unions_and_column_transformers(features):
    X = pd.DataFrame({"text": TEXTS, "length": [float(len(text)) for text in TEXTS]})
    columns = make_column_transformer(
        (features, "text"), (StandardScaler(), ["length"]), sparse_threshold=0
    )
    assert columns.fit_transform(X).shape == (8, 13)
    assert list(columns.get_feature_names_out()[[0, -1]]) == [
        "pretrainedtextfeatures__last_mean_0",
        "standardscaler__length",
    ]
    columns = make_column_transformer((features, ["text"]))
    assert columns.fit_transform(X).shape == (8, 12)
    union = FeatureUnion([("first", clone(features).set_params(layer=1)), ("last", features)])
    assert union.fit_transform(TEXTS).shape == (8, 24)
    pipeline = make_pipeline(features, StandardScaler(), LogisticRegression())
    assert pipeline.fit(TEXTS, LABELS).score(TEXTS, LABELS) == 1.0


@pytest.mark.slow
def test_layers_poolings_and_strategies_are_searched(features, tmp_path):
    features.set_params(cache=tmp_path)
    pipeline = Pipeline([("features", features), ("head", LogisticRegression())])
    grid = {
        "features__layer": [0, "last", (1, 2)],
        "features__pooling": ["mean", "cls+max"],
        "features__strategy": ["frozen", FineTune(1, epochs=1, random_state=0)],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(TEXTS * 3, LABELS * 3)
    assert len(search.cv_results_["params"]) == 12
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    # Layers differ, so features do; a network loaded or read once for all would give one score.
    assert len({tuple(search.cv_results_[f"split{i}_test_score"]) for i in range(2)}) == 2
    deep = clone(pipeline).set_params(
        features__strategy=FineTune(), features__strategy__learning_rate=0.5
    )
    assert deep.get_params()["features__strategy__learning_rate"] == 0.5
