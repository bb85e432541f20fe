"""DomainStandardScaler: one StandardScaler for each domain."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from sktransfer.adaptation.scaling import DomainStandardScaler


@pytest.fixture
def rows():
    random = np.random.RandomState(0)
    sample_domain = random.choice([1, 2, -1, -5], 80)
    return random.randn(80, 3) * np.abs(sample_domain)[:, None] + sample_domain[
        :, None
    ], sample_domain


def test_each_domain_is_standardised_by_itself(rows):
    X, sample_domain = rows
    Z = DomainStandardScaler().fit_transform(X, sample_domain=sample_domain)
    for domain in np.unique(sample_domain):
        of = sample_domain == domain
        np.testing.assert_allclose(Z[of], StandardScaler().fit_transform(X[of]), atol=1e-12)


def test_without_a_domain_the_rows_of_all_targets_count(rows):
    X, sample_domain = rows
    scaler = DomainStandardScaler().fit(X, sample_domain=sample_domain)
    expected = StandardScaler().fit(X[sample_domain < 0]).transform(X)
    np.testing.assert_allclose(scaler.transform(X), expected, atol=1e-12)


def test_mean_and_scale_can_be_left_alone(rows):
    X, sample_domain = rows
    centred = DomainStandardScaler(with_std=False).fit_transform(X, sample_domain=sample_domain)
    of = sample_domain == 2
    np.testing.assert_allclose(centred[of], X[of] - X[of].mean(axis=0), atol=1e-12)
    scaled = DomainStandardScaler(with_mean=False).fit_transform(X, sample_domain=sample_domain)
    np.testing.assert_allclose(scaled[of], X[of] / X[of].std(axis=0), atol=1e-12)


def test_a_domain_that_fit_has_not_seen_is_refused(rows):
    X, sample_domain = rows
    scaler = DomainStandardScaler().fit(X, sample_domain=sample_domain)
    with pytest.raises(ValueError, match=r"sample_domain holds -2.*has seen \[-5, -1, 1, 2\]"):
        scaler.transform(X, sample_domain=np.full(len(X), -2))


def test_what_an_earlier_fit_has_seen_is_forgotten(rows):
    X, sample_domain = rows
    scaler = DomainStandardScaler().fit(X, sample_domain=sample_domain)
    scaler.fit(X, sample_domain=np.sign(sample_domain))
    assert scaler.domains_.tolist() == [-1, 1]
    assert scaler.mean_.shape == (2, 3)
