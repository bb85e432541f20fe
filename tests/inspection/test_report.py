"""The report: its numbers against scikit-learn's, and its page in a browser."""

import contextlib
import html
import json
import re
import shutil
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import sktransfer.inspection.report as report_package
from sktransfer import (
    FeatureStore,
    FineTune,
    FineTunedClassifier,
    PretrainedCNNFeatures,
    RNNSequenceFeatures,
)
from sktransfer.adaptation import CORAL, AdaptedClassifier
from sktransfer.inspection import TransferReport
from sktransfer.metrics import diagnose_shift
from tests.helpers.networks import SmallCNN

SCRIPT = "<script>alert(1)</script>"
QUOTES = "\"'><img src=x onerror=alert(2)>"
BROKEN = "<img src=x onerror=alert(3)>.png"
NAMES = np.array([SCRIPT, QUOTES, "$\\frac{1}$", "_four", *"456789"])


class Tables(HTMLParser):
    """The cells of all tables of a page, by caption; and the names below the cards."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.cards, self._text = {}, [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag in ("caption", "th", "td") or ("class", "name") in attributes:
            self._text = ""
        if tag == "tr":
            self._row = []

    def handle_data(self, data):
        if self._text is not None:
            self._text += data

    def handle_endtag(self, tag):
        if tag == "caption":
            self._rows = self.tables.setdefault(self._text.strip(), [])
        elif tag in ("th", "td"):
            self._row.append(self._text.strip())
        elif tag == "tr":
            self._rows.append(self._row)
        elif tag == "p" and self._text is not None:
            self.cards.append(self._text.strip())
        if tag in ("caption", "th", "td", "p"):
            self._text = None

    def table(self, beginning):
        return next(rows for name, rows in self.tables.items() if name.startswith(beginning))


def small_network(**parameters):
    """Fast, and bad enough to make errors."""
    return PretrainedCNNFeatures(
        SmallCNN, image_size=16, random_state=0, engine="torch", **parameters
    )


def small_pipeline(**parameters):
    return make_pipeline(small_network(**parameters), StandardScaler(), LogisticRegression(C=0.1))


def quiet(*arguments, **parameters):
    """A report of nothing but what a test looks at."""
    kept = ["data", "scores", "confusion", "errors", "failed", "weights", "limits"]
    return TransferReport(*arguments, **{"n_errors": 3, "sections": kept, **parameters})


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    """A hundred digits as files, one of them broken, with hostile names of classes."""
    X, y = digits
    root = tmp_path_factory.mktemp("digits")
    paths = []
    for i in range(100):
        paths.append(str(root / f"{i}.png"))
        Image.fromarray((255 * X[i + 60]).astype(np.uint8)).save(paths[-1])
    paths.append(str(root / BROKEN))
    Path(paths[-1]).write_bytes(b"broken")
    return paths, NAMES[np.append(y[60:160], 0)]


@pytest.fixture(scope="module")
def search(digits):
    X, y = digits
    pipeline = make_pipeline(
        PretrainedCNNFeatures(image_size=32), StandardScaler(), LogisticRegression()
    )
    grid = {"pretrainedcnnfeatures__layer": ["blocks.0", "blocks.2"]}
    return GridSearchCV(pipeline, grid, cv=2).fit(list(X[:60]), NAMES[y[:60]])


@pytest.fixture(scope="module")
def report(digits, folder, search):
    paths, labels = folder
    X_train, y_train = list(digits[0][:60]), NAMES[digits[1][:60]]
    made = TransferReport(
        search, paths, labels, X_train=X_train, y_train=y_train, title=f"Digits {SCRIPT}"
    )
    made.to_html()
    return made


@pytest.fixture(scope="module")
def tables(report):
    return Tables(report.to_html())


# --- numbers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predicted(folder, search):
    paths, labels = folder
    return labels[:100], search.predict(paths[:100]), search.predict_proba(paths[:100])


def test_scores_are_those_of_scikit_learn(report, predicted):
    true, labels, proba = predicted
    scores = report.summary()["scores"]
    expected = {
        "accuracy": metrics.accuracy_score(true, labels),
        "balanced accuracy": metrics.balanced_accuracy_score(true, labels),
        "macro F1": metrics.f1_score(true, labels, average="macro"),
        "log loss": metrics.log_loss(true, proba),
    }
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert scores[name]["value"] == pytest.approx(value, rel=1e-6), name
        low, high = scores[name]["interval"]
        assert low < value < high, name
    assert 0.2 < scores["accuracy"]["value"] < 1  # else there is nothing to see below


def test_the_matrix_is_that_of_scikit_learn(tables, predicted):
    true, labels, _ = predicted
    rows = tables.table("Rows are true classes")
    assert rows[0] == ["true", *sorted(NAMES)]
    assert [row[0] for row in rows[1:]] == sorted(NAMES)
    counts = np.array([row[1:] for row in rows[1:]], dtype=int)
    expected = metrics.confusion_matrix(true, labels, labels=sorted(NAMES))
    np.testing.assert_array_equal(counts, expected)


def test_confusions_are_ordered_by_their_number(tables, predicted):
    true, labels, _ = predicted
    rows = tables.table("Most frequent confusions")[1:]
    counted = pd.Series(list(zip(true, labels, strict=True)))[true != labels].value_counts()
    numbers = [int(row[2]) for row in rows]
    assert numbers == sorted(numbers, reverse=True)
    for t, p, n, share in rows:
        assert counted[t, p] == int(n)
        assert share == f"{int(n) / (true == t).sum():.1%}"


def test_the_table_of_classes_is_that_of_scikit_learn(tables, predicted):
    true, labels, _ = predicted
    expected = metrics.classification_report(true, labels, output_dict=True, zero_division=0)
    rows = tables.table("By class")[1:]
    assert len(rows) == 10
    recalls = [float(row[2]) for row in rows]
    assert recalls == sorted(recalls)
    for name, n, recall, _, precision, f1 in rows:
        known = expected[name]
        assert int(n) == known["support"]
        assert [float(recall), float(precision), float(f1)] == pytest.approx(
            [known["recall"], known["precision"], known["f1-score"]], abs=5e-4
        )


def test_worst_errors_come_in_the_order_of_their_loss(tables, predicted, folder):
    true, labels, proba = predicted
    own = proba[np.arange(100), np.searchsorted(sorted(NAMES), true)]
    wrong = np.flatnonzero(true != labels)
    order = wrong[np.argsort(own[wrong], kind="stable")][:12]
    shown = [int(re.search(r"(\d+)\.png", name).group(1)) for name in tables.cards]
    assert shown == order.tolist()


def test_broken_files_are_listed_and_left_out(report, tables, folder):
    summary = report.summary()
    assert summary["rows"] == 101
    assert summary["predicted"] == 100
    assert [(each["row"], each["path"]) for each in summary["failed"]] == [(100, folder[0][-1])]
    row, path, reason = tables.table("1 of 161 rows")[1]
    assert row == "X[100]"
    assert path.endswith(BROKEN)
    assert reason.startswith("it is not a readable")


def test_candidates_of_the_search_come_with_their_scores(tables, search):
    header, best, other = tables.table("Mean and deviation over splits")
    assert header[1:3] == ["score", "pretrainedcnnfeatures__layer"]
    assert best[2] == repr(search.best_params_["pretrainedcnnfeatures__layer"])
    scores = sorted(search.cv_results_["mean_test_score"], reverse=True)
    assert [float(row[1].split()[0]) for row in (best, other)] == pytest.approx(scores, abs=5e-4)


def test_weights_are_named_with_licence_and_hash(report, search):
    page = report.to_html()
    network = search.best_estimator_[0]
    assert network.weights_sha256_ in page
    assert "Apache-2.0" in page
    assert report.summary()["networks"] == [
        {"backbone": "efficientnet_lite0", "licence": "Apache-2.0"}
    ]


def test_each_row_goes_through_the_network_once_and_the_estimator_stays_as_it_was(report, search):
    assert "160 passes of a row through a frozen network were made, for 160 rows" in " ".join(
        report.to_html().split()
    )
    assert search.best_estimator_[0].cache is None
    assert search.best_estimator_[0].on_error == "raise"


def test_cross_validation_is_that_of_scikit_learn(digits):
    X, y = digits[0][:80], digits[1][:80]
    folds = StratifiedKFold(3)
    found = quiet(small_pipeline(), X, y, cv=folds).summary()
    expected = cross_val_predict(small_pipeline(), X, y, cv=folds, method="predict_proba")
    assert found["protocol"] == "cross-validation"
    assert found["scores"]["log loss"]["value"] == pytest.approx(
        metrics.log_loss(y, expected), rel=1e-4
    )


def test_the_best_layer_by_probe_is_that_of_cross_validation_by_hand(digits):
    X, y = digits[0][:80], digits[1][:80]
    folds = [*KFold(4).split(X)]
    tables = Tables(quiet(small_pipeline(), X, y, cv=folds, sections=["layers"]).to_html())
    rows = tables.table("Layers, shallow to deep")[1:]
    for layer, score, _ in rows:
        head = make_pipeline(
            small_network(layer=layer), StandardScaler(), LogisticRegression(max_iter=2000)
        )
        expected = cross_val_predict(head, X, y, cv=folds)
        assert float(score.split()[0]) == pytest.approx((expected == y).mean(), abs=6e-4)
    assert len(rows) > 1


def test_a_model_fitted_to_x_train_predicts_x(digits):
    X, y = digits
    made = quiet(
        small_pipeline(), X[100:200], y[100:200], X_train=X[:110], y_train=y[:110], max_rows=50
    )
    expected = small_pipeline().fit(X[:110], y[:110]).score(X[100:200], y[100:200])
    summary = made.summary()
    assert summary["protocol"] == "fitted to X_train"
    assert summary["scores"]["accuracy"]["value"] == pytest.approx(expected)
    assert summary["seen_in_training"] == 10
    assert "10 rows of X stand in X_train, too, so the scores are too good." in made.to_html()


def test_copies_and_groups_are_kept_in_one_fold(digits):
    from sktransfer.inspection.report.protocol import folds_of

    y = digits[1][:60]
    groups = np.arange(60) % 25
    for stratified in (True, False):
        splits = folds_of(
            y,
            cv=None,
            groups=groups,
            candidates=np.arange(60),
            stratified=stratified,
            sample_domain=None,
            seed=0,
        )
        assert sorted(np.concatenate([test for _, test in splits])) == [*range(60)]
        for train, test in splits:
            assert not set(groups[train]) & set(groups[test])


def test_rows_of_the_same_content_are_found_also_with_two_labels(digits):
    X, y = digits[0][:60].copy(), digits[1][:60].copy()
    X[50:55] = X[:5]
    y[50:55] = y[:5]
    y[50] = 9 - y[0]
    made = quiet(small_pipeline(), X, y)
    assert made.summary()["copies"] == 5
    page = made.to_html()
    assert "5 rows are exact copies; copies were kept in one fold." in page
    assert "2 rows are labelled in two ways" in page


def test_scores_by_margin_where_there_are_no_probabilities(digits):
    X, y = digits[0][:100], digits[1][:100]
    model = make_pipeline(small_network(), LinearSVC()).fit(X[:50], y[:50])
    made = quiet(model, X[50:], y[50:], n_errors=50)
    decision = model.decision_function(X[50:])
    true = decision[np.arange(50), y[50:]]
    wrong = np.flatnonzero(model.predict(X[50:]) != y[50:])
    others = decision.copy()
    others[np.arange(50), y[50:]] = -np.inf
    order = wrong[np.argsort(-(others.max(axis=1) - true)[wrong], kind="stable")]
    assert Tables(made.to_html()).cards == [f"X[{row}]" for row in order]
    assert "log loss" not in made.summary()["scores"]


def test_regression_has_its_scores_and_its_errors(digits):
    X, y = digits[0][:80], digits[0][:80].mean(axis=(1, 2)) * 100 + digits[1][:80]
    model = make_pipeline(small_network(), StandardScaler(), Ridge(10.0)).fit(X[:40], y[:40])
    made = quiet(model, X[40:], y[40:])
    guesses = model.predict(X[40:])
    scores = made.summary()["scores"]
    expected = {
        "R2": metrics.r2_score(y[40:], guesses),
        "mean absolute error": metrics.mean_absolute_error(y[40:], guesses),
        "root mean squared error": metrics.root_mean_squared_error(y[40:], guesses),
    }
    assert {name: score["value"] for name, score in scores.items()} == pytest.approx(expected)
    worst = np.argsort(-np.abs(y[40:] - guesses))[:3]
    assert Tables(made.to_html()).cards == [f"X[{row}]" for row in worst]
    assert scores["mean absolute error"]["best_constant"] == pytest.approx(
        np.abs(y[40:] - np.median(y[40:])).mean()
    )


def test_of_two_classes_the_area_under_the_curve_is_that_of_scikit_learn():
    from sktransfer.inspection.report.scores import classification_scores

    random = np.random.RandomState(0)
    true = random.randint(2, size=300)
    second = np.round(np.clip(0.5 + 0.2 * true + random.normal(scale=0.3, size=300), 0, 1), 1)
    proba = np.column_stack([1 - second, second])  # with ties
    scores = {
        score.name: score
        for score in classification_scores(true, proba.argmax(axis=1), 2, proba, random)
    }
    assert scores["ROC AUC"].value == pytest.approx(metrics.roc_auc_score(true, second))
    assert scores["log loss"].value == pytest.approx(metrics.log_loss(true, proba))
    low, high = scores["ROC AUC"].interval
    assert 0.02 < high - low < 0.15  # 0.027 is the standard error after Hanley and McNeil


def test_labels_may_be_several_per_row(digits):
    X = digits[0][:200].reshape(200, 64)
    y = np.column_stack([digits[1][:200] % 2, digits[1][:200] > 4]).astype(int)
    made = quiet(KNeighborsClassifier(), X, y, cv=KFold(3))
    guesses = cross_val_predict(KNeighborsClassifier(), X, y, cv=KFold(3))
    scores = made.summary()["scores"]
    assert scores["exact match"]["value"] == metrics.accuracy_score(y, guesses)
    assert scores["macro F1"]["value"] == pytest.approx(
        metrics.f1_score(y, guesses, average="macro")
    )


def test_intervals_of_shares_are_wilsons():
    from scipy.stats import binomtest

    from sktransfer.inspection.report.scores import wilson

    for hits, n in ((0, 5), (3, 10), (99, 100), (7, 7)):
        expected = binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson(hits, n) == pytest.approx((expected.low, expected.high))


def test_bootstrap_intervals_are_as_wide_as_the_standard_error_says():
    from sktransfer.inspection.report.scores import regression_scores

    random = np.random.RandomState(0)
    true = random.normal(size=2000)
    guesses = true + random.normal(size=2000)
    score = regression_scores(true, guesses, random)[1]
    error = np.abs(true - guesses).std() / np.sqrt(2000)
    low, high = score.interval
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_where_resampling_gives_one_value_there_is_no_interval():
    from sktransfer.inspection.report import scores as numbers

    random = np.random.RandomState(0)
    true = np.repeat([0, 1], 20)
    sure = np.eye(2)[true] * 0.8 + 0.1
    hopeful = np.column_stack([sure[:, 0] + 0.5, sure[:, 1]])  # ordered without an error
    right = numbers.classification_scores(true, true, 2, sure, random)
    for score in right[1:]:
        assert score.interval is None, score.name
    constant = numbers.classification_scores(true, np.zeros(40, dtype=int), 2, hopeful, random)
    found = {score.name: score.interval for score in constant}
    assert found["balanced accuracy"] is found["ROC AUC"] is None
    assert found["macro F1"] is not None
    for score in numbers.regression_scores(true, true, random):
        assert score.interval is None, score.name
    both = np.column_stack([true, 1 - true])
    assert numbers.multilabel_scores(both, both, random)[1].interval is None


def test_bounds_of_shares_end_at_0_and_1():
    from sktransfer.inspection.report.scores import wilson

    for n in range(1, 300):
        assert wilson(n, n)[1] == 1.0
        assert wilson(0, n)[0] == 0.0
        assert len(repr(wilson(n, n + 1)[1])) < 16


# --- what it says in short ----------------------------------------------------------------


def in_short(made):
    section = made.to_html().split('<section id="summary"')[1].split("</section>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", section))


def test_layers_worse_than_a_constant_are_not_recommended(digits):
    y = np.random.RandomState(0).normal(size=40)
    model = make_pipeline(small_network(), StandardScaler(), Ridge())
    made = quiet(model, digits[0][:40], y, cv=2, sections=["scores", "layers"])
    assert "No layer beats the constant prediction (r2 0.000) in a linear probe" in in_short(made)
    assert "as well" not in in_short(made)
    assert "ridge regression of each layer's features as they are" in html.unescape(made.to_html())


def test_a_model_far_worse_than_the_probe_of_its_layer_is_called_so(digits):
    X, y = digits[0][:120], digits[1][:120] % 2
    wrong = small_pipeline().fit(X[:60], 1 - y[:60])
    made = quiet(wrong, X[60:], y[60:], sections=["scores", "layers"])
    assert "far less than a linear model on that layer" in in_short(made)
    assert "logistic regression of each layer's standardised" in html.unescape(made.to_html())
    sound = quiet(small_pipeline(), X, y, cv=2, sections=["scores", "layers"])
    assert "far less" not in in_short(sound)


def test_whole_numbers_of_a_regression_are_probed_as_numbers(digits):
    model = make_pipeline(small_network(), StandardScaler(), Ridge())
    made = quiet(model, digits[0][:60], digits[1][:60], cv=2, sections=["layers"])
    assert Tables(made.to_html()).table("Layers, shallow")[0][1] == "r2"


def test_classes_that_the_model_has_never_seen_are_told(digits):
    X, y = digits
    seen = np.flatnonzero(y < 8)[:80]
    made = quiet(small_pipeline().fit(X[seen], y[seen]), X[200:300], y[200:300])
    n = int((y[200:300] >= 8).sum())
    text = f"{n} rows are of 2 classes that the model has never seen (8, 9), and cannot be right"
    assert text in in_short(made)
    assert made.summary()["unseen_classes"] == ["8", "9"]
    assert "never seen" not in in_short(quiet(small_pipeline(), X[:60], y[:60], cv=2))


def test_rows_without_a_target_are_told(digits):
    y = digits[1][:40].astype(float)
    y[:3] = np.nan
    model = make_pipeline(small_network(), StandardScaler(), Ridge())
    made = quiet(model, digits[0][:40], y, cv=2)
    assert "3 rows of X have no target and are not scored." in in_short(made)
    assert made.summary()["without_label"] == 3


def test_long_names_that_begin_alike_are_told_apart_and_leave_room(digits):
    X, y = digits[0][:60], digits[1][:60] % 2
    names = np.array([f"{'specimen ' * 17}<b>one</b>", f"{'specimen ' * 17}<b>two</b>"])
    made = quiet(small_pipeline(), X, names[y], cv=2, sections=["data", "scores", "confusion"])
    tables = Tables(made.to_html())
    for caption in ("2 classes", "By class", "Rows are true classes"):
        shown = {row[0] for row in tables.table(caption)[1:]}
        assert len(shown) == 2
        assert max(map(len, shown)) <= 32
    assert f'title="{html.escape(names[0])}"' in made.to_html()
    assert made.summary()["classes"] == names.tolist()


# --- what it takes ------------------------------------------------------------------------


def test_series_are_drawn_and_unreadable_ones_left_out():
    random = np.random.RandomState(0)
    X = [random.normal(size=(30 + i % 5, 2)) for i in range(40)]
    y = np.repeat(["flat", "steep"], 20)
    for series in X[20:]:
        series += np.linspace(0, 2, len(series))[:, None]
    X[3] = X[3].copy()
    X[3][4, 1] = np.inf
    X[5] = X[5][:, :1]
    network = RNNSequenceFeatures("gru", weights="random", hidden_size=8, random_state=0)
    made = quiet(
        make_pipeline(network, StandardScaler(), LogisticRegression()), X, y, cv=2, sections=None
    )
    failed = {each["row"]: each["error"] for each in made.summary()["failed"]}
    assert failed.keys() == {3, 5}
    assert "X[3], time step 4, channel 1" in failed[3]
    assert failed[5] == "it has 1 channels, and most rows have 2"
    assert "<polyline" in made.to_html()
    assert "drawn at random" in made.to_html()
    assert made.summary()["sections_failed"] == []


def test_texts_are_quoted_and_empty_ones_left_out():
    X = [f"the {SCRIPT} number {i}" if i % 2 else f"a letter {i}" for i in range(40)] + [""]
    y = np.append(np.tile([0, 1], 20), 0)
    y[:4] = 1 - y[:4]  # so that there are errors to quote
    network = RNNSequenceFeatures("gru", hidden_size=8, random_state=0)
    made = quiet(
        make_pipeline(network, StandardScaler(), LogisticRegression()),
        pd.Series(X),
        y,
        cv=2,
        target_names=["letters", SCRIPT],
    )
    assert [each["row"] for each in made.summary()["failed"]] == [40]
    page = made.to_html()
    assert SCRIPT not in page
    assert "the &lt;script&gt;alert(1)&lt;/script&gt; number" in page


def test_unions_and_columns_and_tables_are_taken(digits):
    X, y = digits[0][:60], digits[1][:60] > 4
    union = FeatureUnion([("a", small_network(layer=0)), ("b", small_network(layer=1))])
    made = quiet(make_pipeline(union, StandardScaler(), LogisticRegression()), X, y, cv=2)
    assert len(made.summary()["networks"]) == 2
    assert "ROC AUC" in made.summary()["scores"]
    assert made.summary()["sections_failed"] == []

    table = pd.DataFrame({"image": list(X), "weight": np.arange(60.0), "name": ["a"] * 60})
    columns = ColumnTransformer([("cnn", small_network(), "image"), ("as is", "passthrough", [1])])
    mixed = quiet(
        make_pipeline(columns, StandardScaler(), LogisticRegression()),
        table,
        y,
        cv=2,
        sections=["scores", "errors", "layers", "embedding"],
    )
    assert mixed.summary()["sections_failed"] == []
    assert "stands behind other steps" in mixed.to_html()

    plain = quiet(LogisticRegression(), X.reshape(60, 64), y, cv=2)
    assert plain.summary()["networks"] == []
    assert "There is no pretrained network." in plain.to_html()


def test_fine_tuned_estimators_show_how_the_training_went(digits):
    X, y = digits[0][:60], digits[1][:60] > 4
    strategy = FineTune(1, epochs=2)
    model = FineTunedClassifier(small_network(), strategy=strategy, random_state=0)
    made = quiet(model, X, y, cv=KFold(2), sections=["scores", "tuning", "embedding", "limits"])
    expected = cross_val_predict(model, X, y, cv=KFold(2))
    assert made.summary()["scores"]["accuracy"]["value"] == (expected == y).mean()
    page = made.to_html()
    assert 'id="tuning"' in page
    assert "tuned on these very rows" in page
    assert "How much of the result is owed to tuning" in page
    assert made.summary()["sections_failed"] == []


def test_domains_are_told_apart_and_handed_to_who_knows_them(digits):
    X, y = digits
    both = np.concatenate([X[:60], 0.5 * X[100:160]])
    labels = np.append(y[:60], y[100:160])
    domain = np.repeat([1, -1], 60)
    adapted = make_pipeline(small_network(), AdaptedClassifier(method=CORAL()))
    made = quiet(adapted, both, labels, sample_domain=domain, sections=["shift", "scores"])
    summary = made.summary()
    assert summary["predicted"] == 60
    features = small_network().fit_transform(both)
    seed = np.random.RandomState(0).randint(2**31 - 1)
    shift = diagnose_shift(features[:60], features[60:], labels[:60], random_state=seed)
    assert summary["shift"] == shift.kind != "none"
    assert summary["sections_failed"] == []
    assert "Rows of the source were always there for training." in made.to_html()

    hidden = np.append(y[:60], np.full(60, -1))  # what stack_domains fills in
    unlabelled = quiet(adapted, both, hidden, sample_domain=domain)
    assert unlabelled.summary()["predicted"] == 60
    assert unlabelled.summary()["classes"] == [*"0123456789"]
    assert "these are scores of the source" in unlabelled.to_html()


def test_a_store_of_ones_own_is_used(digits, tmp_path):
    X, y = digits[0][:40], digits[1][:40] > 4
    quiet(small_pipeline(cache=tmp_path / "store"), X, y, cv=2).to_html()
    groups = FeatureStore(tmp_path / "store").info()["namespaces"]
    assert [group["n_forward"] for group in groups] == [40]


# --- what goes wrong ----------------------------------------------------------------------


def test_a_section_that_fails_shows_its_error_and_leaves_the_others_alone(digits):
    X, y = digits[0][:40], digits[1][:40] > 4
    made = quiet(small_pipeline(), X, y, cv=2, embedding=SCRIPT, sections=["scores", "embedding"])
    with pytest.warns(UserWarning, match="the section 'Embedding' of the report failed"):
        page = made.to_html()
    assert made.summary()["sections_failed"] == ["embedding"]
    assert "ValueError: method must be one of" in page
    assert SCRIPT not in page
    assert "accuracy" in made.summary()["scores"]


def test_without_matplotlib_sections_with_figures_are_left_out(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made = quiet(small_pipeline(), *both(digits), cv=2, sections=["scores", "layers", "embedding"])
    page = html.unescape(made.to_html())
    assert made.summary()["sections_failed"] == []
    assert page.count('needs matplotlib: run `pip install "sktransfer[plot]"`') == 2
    assert 'id="left-out"' in page


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


def test_predictions_that_fail_leave_the_description_of_the_data(digits):
    class Stubborn(LogisticRegression):
        def fit(self, X, y):
            raise RuntimeError("I will not")

    with pytest.warns(UserWarning, match="I will not"):
        summary = quiet(make_pipeline(small_network(), Stubborn()), *both(digits)).summary()
    assert {"scores", "confusion", "errors"} <= set(summary["sections_failed"])
    assert not {"data", "limits"} & set(summary["sections_failed"])
    assert summary["scores"] == {}


def both(digits):
    return digits[0][:40], digits[1][:40] > 4


@pytest.mark.parametrize(
    ("estimator", "parameters", "message"),
    [
        (small_network(), {}, "must end in a classifier or regressor"),
        (LogisticRegression, {}, "must be a classifier, a regressor"),
        (GridSearchCV(small_pipeline(), {}, refit=False), {}, "refit=False"),
        (small_pipeline(), {"cv": 3, "X_train": [1]}, "give one of them"),
        (small_pipeline(), {"y_train": [1]}, "y_train needs X_train"),
        (small_pipeline(), {"groups": [1, 2]}, "groups must hold a value for each of the 40 rows"),
        (small_pipeline(), {"sample_domain": np.zeros(40)}, "none of them 0"),
        (small_pipeline(), {"n_errors": -1}, "n_errors == -1"),
        (small_pipeline(), {"max_rows": 1}, "max_rows == 1"),
        (small_pipeline(), {"sections": ["nothing"]}, "sections must be a list of some of"),
        (small_pipeline(), {"sections": "data"}, "sections must be a list of some of"),
        (small_pipeline(), {"title": 3}, "title must be a str"),
        (small_pipeline(), {"target_names": ["one"]}, "target_names must name each of the 2"),
    ],
)
def test_wrong_arguments_are_named(estimator, parameters, message, digits):
    with pytest.raises((TypeError, ValueError), match=message):
        TransferReport(estimator, *both(digits), **parameters).to_html()


def test_labels_must_fit_the_rows_and_rows_must_be_readable(digits, tmp_path):
    X, y = both(digits)
    with pytest.raises(ValueError, match="y must hold a value for each of the 40 rows of X"):
        quiet(small_pipeline(), X, y[:3]).to_html()
    with pytest.raises(ValueError, match="none of the 2 rows of X can be read"):
        quiet(
            small_pipeline(), [str(tmp_path / "a.png"), str(tmp_path / "b.png")], [0, 1]
        ).to_html()
    with pytest.raises(ValueError, match="y holds no label"):
        quiet(small_pipeline(), X, np.full(40, np.nan)).to_html()


def test_rows_without_a_label_are_left_out(digits):
    X, y = digits[0][:60], np.where(digits[1][:60] > 4, "high", "low").astype(object)
    y[::10] = None
    summary = quiet(small_pipeline(), X, y, cv=2).summary()
    assert summary["predicted"] == 54
    assert summary["classes"] == ["high", "low"]


def test_overlapping_splits_are_refused_where_the_scores_would_stand(digits):
    made = quiet(small_pipeline(), *both(digits), cv=ShuffleSplit(3, test_size=0.5, random_state=0))
    with pytest.warns(UserWarning, match="must hold out each row once at most"):
        assert "scores" in made.summary()["sections_failed"]


def test_a_file_that_cannot_be_written_is_found_out_before_the_work(digits, tmp_path):
    class Fails(LogisticRegression):
        def fit(self, X, y):
            raise AssertionError("the work has begun")

    made = quiet(make_pipeline(small_network(), Fails()), *both(digits))
    with pytest.raises(FileNotFoundError):
        made.to_html(tmp_path / "nowhere" / "report.html")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        made.to_html(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_the_file_holds_the_page_and_nothing_is_left_beside_it(report, tmp_path):
    page = report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    json.dumps(report.summary(), allow_nan=False)


def test_no_template_switches_escaping_off():
    templates = [*Path(report_package.__file__).parent.glob("templates/*")]
    assert len(templates) == 3
    for template in templates:
        assert not re.search(r"safe|autoescape|Markup|tojson|<script", template.read_text())


def test_nothing_that_is_shown_can_hide_or_turn_the_text_around():
    from sktransfer.inspection.report.text import path_text, plain

    assert plain("a\u202egnp.exe\x00\n") == "a\\u202egnp.exe\\x00\\n"
    assert plain("x" * 200) == "x" * 119 + "…"
    assert path_text("/" + "a" * 200 + "/end.png").endswith("/end.png")
    assert path_text("caf\udce9.png") == "caf\\udce9.png"


# --- the page -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    chromium = chromium or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on the path to open the page in")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments += ["--disable-background-networking", "--disable-component-update"]
    arguments += ["--disable-sync"]
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def opened(browser, report, tmp_path_factory):
    """Opens the page, and notes what it asks for and complains of."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    report.to_html(file)

    @contextlib.contextmanager
    def open_it(width=1200, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        asked, complaints, dialogs = [], [], []

        def route(request):
            asked.append(request.request.url)
            (request.continue_ if request.request.url == file.as_uri() else request.abort)()

        page.route("**/*", route)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(file.as_uri())
        page.wait_for_load_state("networkidle")
        yield page
        assert asked == [file.as_uri()]
        assert complaints == []
        assert dialogs == []
        page.close()

    return open_it


def test_the_page_loads_nothing_runs_nothing_and_shows_hostile_names_as_text(opened):
    with opened() as page:
        text = page.inner_text("body")
        for name in (SCRIPT, QUOTES, BROKEN, "$\\frac{1}$"):
            assert name in text
        assert page.inner_text("h1") == f"Digits {SCRIPT}"
        assert page.locator("script, iframe, object, embed, form, img[onerror]").count() == 0
        policy = page.get_attribute('meta[http-equiv="Content-Security-Policy"]', "content")
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        sources = page.eval_on_selector_all("img", "all => all.map(one => one.src)")
        assert sources
        assert all(source.startswith("data:image/") for source in sources)
        shown = "all => all.every(one => one.complete && one.naturalWidth > 0)"
        assert page.eval_on_selector_all("img", shown)


def test_a_script_that_got_in_would_not_run(browser, report):
    """The policy is a second wall behind escaping."""
    page = browser.new_page()
    hostile = "<script>window.ran = 1</script><img src='data:,' onerror='window.ran = 1'></main>"
    page.set_content(report.to_html().replace("</main>", hostile))
    page.wait_for_timeout(100)
    assert page.locator("main script").count() == 1
    assert page.evaluate("window.ran") is None
    page.close()


@pytest.mark.parametrize("width", [360, 390, 768, 1200])
def test_the_page_is_no_wider_than_the_screen(width, opened):
    with opened(width) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        small = (
            "all => all.filter(one => one.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert page.eval_on_selector_all("section, .tile, figure, .scroll, h1, h2", small) == 0


CONTRASTS = """() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
  const light = colour => {
    const [r, g, b] = colour.map(
      c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.push(rgba(getComputedStyle(e).backgroundColor));
    }
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(n => n.nodeType == 3 && n.textContent.trim());
    if (!own || element.closest('.skip, .unseen, svg')) continue;
    const grounds = [ground(element)];
    const fill = element.closest('.bar')?.querySelector('.fill');
    if (fill) grounds.push(rgba(getComputedStyle(fill).backgroundColor).slice(0, 3));
    for (const under of grounds) {
      const ink = over(rgba(getComputedStyle(element).color), under);
      const [high, low] = [light(ink), light(under)].sort((a, b) => b - a);
      found.push([(high + .05) / (low + .05), element.outerHTML.slice(0, 120)]);
    }
  }
  return {ground: light(ground(document.body)), texts: found};
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(scheme, opened):
    with opened(scheme=scheme) as page:
        found = page.evaluate(CONTRASTS)
    assert found["ground"] < 0.02 if scheme == "dark" else found["ground"] > 0.8
    assert len(found["texts"]) > 300
    assert min(found["texts"])[0] >= 4.5, min(found["texts"])


def test_figures_change_with_the_scheme(opened):
    shown = []
    for scheme in ("light", "dark"):
        with opened(scheme=scheme) as page:
            current = "all => all.map(one => one.currentSrc)"
            shown.append(page.eval_on_selector_all("img.plot", current))
    assert len(shown[0]) == len(shown[1]) >= 3  # shift, layers, embedding
    assert not set(shown[0]) & set(shown[1])


def test_the_page_can_be_found_ones_way_in_without_eyes(opened):
    with opened() as page:
        assert page.get_attribute("html", "lang") == "en"
        assert page.locator("h1").count() == 1
        assert page.locator("header, nav, main, footer").count() == 4
        lost = "all => all.filter(a => !document.getElementById(a.hash.slice(1))).length"
        assert page.eval_on_selector_all("a", lost) == 0
        assert page.eval_on_selector_all("img", "all => all.filter(i => !i.alt).length") == 0
        unnamed = "all => all.filter(s => !s.getAttribute('aria-labelledby')).length"
        assert page.eval_on_selector_all("section", unnamed) == 0
        assert page.locator("th:not([scope])").count() == 0
        tables = page.locator("table").count()
        assert page.locator("table > caption").count() == tables > 5
        ids = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
        assert len(ids) == len(set(ids))
