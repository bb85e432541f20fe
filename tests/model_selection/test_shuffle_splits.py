"""StratifiedDomainShuffleSplit: proportions of domains, and of classes in the source."""

import numpy as np
import pandas as pd
import pytest

from sktransfer.model_selection import StratifiedDomainShuffleSplit


@pytest.fixture
def labelled_domains():
    """400 rows: source 1 with three classes, source 2 with two, a target labelled at random."""
    random = np.random.RandomState(0)
    sample_domain = np.repeat([1, 2, -1], [200, 80, 120])
    y = np.concatenate(
        [np.repeat([0, 1, 2], [120, 60, 20]), np.repeat([0, 1], [60, 20]), np.repeat([0, 1], 60)]
    )
    order = random.permutation(400)
    return np.zeros((400, 1)), y[order], sample_domain[order]


@pytest.mark.parametrize("stratify_target", [False, True])
def test_domains_and_classes_keep_their_proportions(stratify_target, labelled_domains):
    X, y, sample_domain = labelled_domains
    splitter = StratifiedDomainShuffleSplit(
        5, test_size=0.25, stratify_target=stratify_target, random_state=0
    )
    balanced = []
    for train, test in splitter.split(X, y, sample_domain=sample_domain):
        assert len(test) == 100
        assert len(np.intersect1d(train, test)) == 0
        assert len(train) == 300
        for domain in (1, 2):
            for label in (0, 1, 2):
                all_rows = ((sample_domain == domain) & (y == label)).sum()
                tested = ((sample_domain[test] == domain) & (y[test] == label)).sum()
                assert tested == all_rows / 4
        assert (sample_domain[test] == -1).sum() == 30
        balanced.append((y[test][sample_domain[test] == -1] == 0).sum() == 15)
    assert all(balanced) == stratify_target


@pytest.mark.parametrize("blank", [np.nan, -1.0, 99.0])
def test_labels_of_target_rows_change_nothing_unless_asked(blank, labelled_domains):
    X, y, sample_domain = labelled_domains
    splitter = StratifiedDomainShuffleSplit(2, random_state=0)
    expected = list(splitter.split(X, y, sample_domain=sample_domain))
    other = np.where(sample_domain < 0, blank, y.astype(float))
    for (train, test), (other_train, other_test) in zip(
        expected, splitter.split(X, other, sample_domain=sample_domain), strict=True
    ):
        np.testing.assert_array_equal(train, other_train)
        np.testing.assert_array_equal(test, other_test)


def test_text_labels_and_series_are_divided_alike(labelled_domains):
    X, y, sample_domain = labelled_domains
    splitter = StratifiedDomainShuffleSplit(1, random_state=0)
    expected = next(splitter.split(X, y, sample_domain=sample_domain))
    for named in (np.array(["a", "b", "c"])[y], pd.Series(np.array(["a", "b", "c"])[y])):
        found = next(splitter.split(X, named, sample_domain=sample_domain))
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("kind", ["none", "continuous", "several"])
def test_where_there_are_no_classes_domains_alone_are_kept(kind, labelled_domains):
    X, _, sample_domain = labelled_domains
    y = {
        "none": None,
        "continuous": np.random.RandomState(0).normal(size=400),
        "several": np.random.RandomState(0).normal(size=(400, 2)),
    }[kind]
    splitter = StratifiedDomainShuffleSplit(3, test_size=40, random_state=0)
    for _, test in splitter.split(X, y, sample_domain=sample_domain):
        counts = [(sample_domain[test] == domain).sum() for domain in (1, 2, -1)]
        assert counts == [20, 8, 12]


def test_sizes_are_those_of_scikit_learn(labelled_domains):
    X, y, sample_domain = labelled_domains
    train, test = next(
        StratifiedDomainShuffleSplit(random_state=0).split(X, y, sample_domain=sample_domain)
    )
    assert (len(train), len(test)) == (360, 40)
    train, test = next(
        StratifiedDomainShuffleSplit(train_size=0.5, test_size=0.1, random_state=0).split(
            X, y, sample_domain=sample_domain
        )
    )
    assert (len(train), len(test)) == (200, 40)
    assert StratifiedDomainShuffleSplit(7).get_n_splits() == 7


def test_a_single_row_of_its_kind_is_named():
    splitter = StratifiedDomainShuffleSplit()
    with pytest.raises(ValueError, match=r"row 2 \(domain 1\) is the only one of its kind"):
        next(splitter.split(np.zeros((5, 1)), [0, 0, 1, 0, 0], sample_domain=[1, 1, 1, -1, -1]))


def test_too_small_a_test_side_is_refused(labelled_domains):
    X, y, sample_domain = labelled_domains
    splitter = StratifiedDomainShuffleSplit(test_size=3)
    with pytest.raises(ValueError, match="test_size = 3 should be greater"):
        next(splitter.split(X, y, sample_domain=sample_domain))
    with pytest.raises(ValueError, match="n_splits == 0"):
        next(StratifiedDomainShuffleSplit(0).split(X, y, sample_domain=sample_domain))


def test_labels_in_an_array_of_objects_are_divided_too(labelled_domains):
    """As they come from a table with None where there is no label."""
    X, y, sample_domain = labelled_domains
    splitter = StratifiedDomainShuffleSplit(1, random_state=0)
    expected = next(splitter.split(X, y, sample_domain=sample_domain))
    some = np.array([v if d > 0 else None for v, d in zip(y, sample_domain, strict=True)])
    assert some.dtype == object
    for found, side in zip(
        next(splitter.split(X, some, sample_domain=sample_domain)), expected, strict=True
    ):
        np.testing.assert_array_equal(found, side)
    with pytest.raises(ValueError, match="y must hold a label in each row by which to stratify"):
        next(
            StratifiedDomainShuffleSplit(1, stratify_target=True).split(
                X, some, sample_domain=sample_domain
            )
        )
