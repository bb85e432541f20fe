"""Optimal transport against POT's classes for domain adaptation."""

import sys

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sktransfer.adaptation._sinkhorn import EntropicPlan
from sktransfer.adaptation.optimal_transport import OptimalTransportMap

ot = pytest.importorskip("ot")


@pytest.fixture
def rows():
    random = np.random.RandomState(0)
    source = random.randn(80, 3)
    target = random.randn(120, 3) * [1, 2, 0.5] + 1
    return source, target, np.concatenate([source, target]), np.repeat([1, -1], [80, 120])


@pytest.mark.parametrize(
    ("ours", "peer"),
    [
        (OptimalTransportMap("emd"), ot.da.EMDTransport()),
        (OptimalTransportMap("sinkhorn"), ot.da.SinkhornTransport()),
        (
            OptimalTransportMap("sinkhorn", reg=0.1, normalise_cost="median"),
            ot.da.SinkhornTransport(reg_e=0.1, norm="median"),
        ),
        (OptimalTransportMap("class-regularised"), ot.da.SinkhornLpl1Transport()),
        (
            OptimalTransportMap(
                "class-regularised", reg=0.5, class_reg=1.0, normalise_cost="max", max_iter=2000
            ),
            ot.da.SinkhornLpl1Transport(reg_e=0.5, reg_cl=1.0, norm="max", max_inner_iter=2000),
        ),
        (OptimalTransportMap("linear"), ot.da.LinearTransport()),
        (OptimalTransportMap("linear", reg=0.5), ot.da.LinearTransport(reg=0.5)),
        (OptimalTransportMap("linear", match_mean=False), ot.da.LinearTransport(bias=False)),
    ],
    ids=lambda each: repr(each) if isinstance(each, OptimalTransportMap) else "",
)
def test_source_rows_go_where_pot_brings_them(ours, peer, rows):
    source, target, X, sample_domain = rows
    y = (source[:, 0] > 0).astype(int)
    peer.fit(Xs=source, ys=y, Xt=target)
    labels = np.append(np.array(["no", "yes"])[y], np.full(120, ""))
    Z = ours.fit_transform(X, labels, sample_domain=sample_domain)
    np.testing.assert_allclose(Z[:80], peer.transform(Xs=source), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(Z[80:], target)
    new = np.random.RandomState(1).randn(30, 3)
    np.testing.assert_allclose(
        ours.transform(new, sample_domain=np.ones(30)), peer.transform(Xs=new), rtol=0, atol=1e-12
    )


def test_labelled_target_rows_are_kept_from_other_classes(rows):
    source, target, X, sample_domain = rows
    y = np.append(source[:, 0] > 0, target[:, 0] > 1).astype(int)
    labelled = np.append(np.zeros(80, bool), np.arange(120) % 2 == 0)
    transport = OptimalTransportMap("class-regularised", reg=0.5, max_iter=5000)
    Z = transport.fit_transform(X, y, sample_domain=sample_domain, target_labeled=labelled)
    seen = np.where(labelled[80:], y[80:], -1)
    peer = ot.da.SinkhornLpl1Transport(reg_e=0.5, limit_max=10, max_inner_iter=5000)
    peer.fit(Xs=source, ys=y[:80], Xt=target, yt=seen)
    np.testing.assert_allclose(Z[:80], peer.transform(Xs=source), rtol=0, atol=1e-8)


def test_equal_source_rows_have_one_image(rows):
    _, _, X, sample_domain = rows
    X[1:20] = X[0]
    Z = OptimalTransportMap().fit_transform(X, sample_domain=sample_domain)
    assert len(np.unique(Z[:20], axis=0)) == 1
    # The mean of all images is that of the target, as it is for every exact plan.
    np.testing.assert_allclose(Z[:80].mean(axis=0), X[80:].mean(axis=0), atol=1e-12)


def test_rows_beyond_max_samples_are_mapped_like_new_ones():
    random = np.random.RandomState(0)
    X, sample_domain = random.randn(900, 2), np.repeat([1, -1], [400, 500])
    X[400:] += 5
    for method in ("emd", "sinkhorn"):
        few = OptimalTransportMap(method, max_samples=200, random_state=0)
        Z = few.fit_transform(X, sample_domain=sample_domain)[:400]
        kept = few.source_rows_ if method == "emd" else few.target_rows_
        assert kept.shape == (200, 2)
        np.testing.assert_allclose(Z.mean(axis=0), 5, atol=0.2)


def test_linear_transport_is_exact_between_gaussians(rows):
    _, target, X, sample_domain = rows
    Z = OptimalTransportMap("linear", reg=0).fit_transform(X, sample_domain=sample_domain)[:80]
    np.testing.assert_allclose(np.cov(Z.T, ddof=0), np.cov(target.T, ddof=0), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("reg", [1.0, 1e-2, 1e-4])
def test_costs_of_any_size_give_finite_plans_with_the_right_margins(reg):
    random = np.random.RandomState(0)
    cost = random.rand(30, 40) * 10
    plan = EntropicPlan(cost, reg).solve(1000, 1e-9)
    peer = ot.bregman.sinkhorn_log(
        np.full(30, 1 / 30),
        np.full(40, 1 / 40),
        cost,
        reg,
        numItermax=plan.n_iter,
        stopThr=1e-9,
        warn=False,
    )
    np.testing.assert_allclose(plan.matrix(), peer, atol=1e-10)
    np.testing.assert_allclose(plan.matrix().sum(axis=1), 1 / 30, atol=1e-10)


@pytest.mark.parametrize("method", ["emd", "sinkhorn", "class-regularised"])
def test_a_plan_that_is_not_done_is_warned_of(method, rows):
    source, _, X, sample_domain = rows
    y = np.append(source[:, 0] > 0, np.zeros(120)).astype(int)
    transport = OptimalTransportMap(method, reg=0.01, max_iter=2)
    with pytest.warns(ConvergenceWarning, match="did not converge in max_iter=2 steps"):
        transport.fit(X, y, sample_domain=sample_domain)


def test_class_regularised_asks_for_labels(rows):
    _, _, X, sample_domain = rows
    with pytest.raises(ValueError, match="requires y to be passed"):
        OptimalTransportMap("class-regularised").fit(X, sample_domain=sample_domain)


def test_only_the_exact_plan_needs_pot(rows, monkeypatch):
    _, _, X, sample_domain = rows
    monkeypatch.setitem(sys.modules, "ot", None)
    OptimalTransportMap("sinkhorn").fit(X, sample_domain=sample_domain)
    OptimalTransportMap("linear").fit(X, sample_domain=sample_domain)
    with pytest.raises(ImportError, match=r'pip install "sktransfer\[adaptation\]"'):
        OptimalTransportMap().fit(X, sample_domain=sample_domain)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
def test_the_exact_plan_is_the_same_in_any_units(scale, rows):
    """POT alone takes costs of 1e-12 for equal, and moves rows anywhere."""
    _, _, X, sample_domain = rows
    expected = OptimalTransportMap("emd").fit_transform(X, sample_domain=sample_domain)
    found = OptimalTransportMap("emd").fit_transform(X * scale, sample_domain=sample_domain)
    np.testing.assert_allclose(found, expected * scale, rtol=1e-9, atol=1e-12 * scale)
