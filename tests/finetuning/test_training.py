"""Fine-tuning a network from end to end, through PretrainedCNNFeatures."""

import copy
import random
import signal

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sktransfer import FineTune, FineTunedClassifier, FineTunedRegressor, PretrainedCNNFeatures
from sktransfer.finetuning.alignment import coral_loss, mmd_loss
from sktransfer.finetuning.batches import ArrayInputs, Batches, TrainingRows
from sktransfer.finetuning.penalties import relational_penalty
from sktransfer.finetuning.targets import encode_targets
from tests.helpers.networks import TwoStages

pytestmark = pytest.mark.slow


def images_of(network=TwoStages, **parameters):
    """Features of digits from a small network with random weights."""
    how = {"image_size": 16, "random_state": 0, "engine": "torch", **parameters}
    return PretrainedCNNFeatures(network, **how)


def tuned(X, y, unfreeze="all", *, features=None, domain=None, **settings):
    """A classifier that is fitted with a strategy."""
    how = {"epochs": 3, "batch_size": 32, "guard": False, **settings}
    classifier = FineTunedClassifier(
        images_of() if features is None else features,
        strategy=FineTune(unfreeze, **how),
        random_state=0,
    )
    return classifier.fit(X, y, sample_domain=domain)


def weights_of(classifier):
    state = classifier.features_.module_.state_dict()
    return {name: tensor.numpy().copy() for name, tensor in state.items()}


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:160], digits[1][:160]


@pytest.fixture(scope="module")
def source(some):
    """Weights before any training."""
    module = images_of().fit(some[0]).module_
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("unfreeze", ["head", 1])
def test_a_cached_trunk_changes_nothing(unfreeze, digits):
    X, y = digits[0][:120], digits[1][:120]
    features = PretrainedCNNFeatures(layer="blocks.2", image_size=32, engine="torch")
    fits = [
        tuned(X, y, unfreeze, features=features, cache_trunk=cached, epochs=2)
        for cached in (True, False)
    ]
    cached, plain = map(weights_of, fits)
    for name, weight in plain.items():
        assert_allclose(cached[name], weight, atol=1e-4 * max(1, np.abs(weight).max()))
    assert_allclose(fits[0].predict_proba(X), fits[1].predict_proba(X), atol=1e-3)
    # Each image went through the trunk once instead of in every epoch.
    assert fits[0].features_.n_forward_ == 2 * len(X)  # the trunk, and predict_proba


def test_training_is_set_by_random_state_and_leaves_global_generators_alone(some):
    states = [torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()]
    first = tuned(*some, augment="light", mixup=0.2)
    assert_array_equal(torch.get_rng_state(), states[0])
    assert_array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    torch.manual_seed(5)
    np.random.seed(5)
    again, other = tuned(*some, augment="light", mixup=0.2), tuned(*some, random_state=1)
    assert_array_equal(first.predict_proba(some[0]), again.predict_proba(some[0]))
    assert (first.predict_proba(some[0]) != other.predict_proba(some[0])).any()


def test_what_is_frozen_keeps_weights_and_batch_norm_statistics(some, source):
    found = weights_of(tuned(*some, 1, batch_norm="update"))
    moved = {name for name in source if not np.array_equal(source[name], found[name])}
    assert {name.split(".")[0] for name in moved} == {"second"}
    assert {"second.1.running_mean", "second.1.running_var", "second.0.weight"} <= moved
    found = weights_of(tuned(*some, "all"))
    assert all(
        np.array_equal(source[name], found[name])
        for name in source
        if "running" in name or "num_batches" in name
    )


def test_every_weight_that_is_to_be_trained_moves(some, source):
    classifier = tuned(*some, "all")
    found = weights_of(classifier)
    for name in classifier.trained_parameters_:
        assert not np.array_equal(source[name], found[name]), name
    # The network's own classifier comes after what is read.
    assert not any(name.startswith("head") for name in classifier.trained_parameters_)


def test_an_infinite_l2_sp_keeps_the_source_and_a_zero_one_does_nothing(some, source):
    kept = weights_of(tuned(*some, penalty="l2-sp", penalty_weight=np.inf))
    assert all(np.array_equal(kept[name], source[name]) for name in source)
    # L2-SP takes the place of weight decay in the body, which is therefore off on both sides.
    free = tuned(*some, penalty="l2-sp", penalty_weight=0, weight_decay=0)
    plain = tuned(*some, weight_decay=0)
    assert_array_equal(free.predict_proba(some[0]), plain.predict_proba(some[0]))


@pytest.mark.parametrize("penalty", ["l2-sp", "delta", "bss", "rkd"])
def test_a_penalty_changes_what_is_learned_more_the_heavier_it_is(penalty, some):
    free, heavy = (
        tuned(*some, penalty=penalty, penalty_weight=weight, weight_decay=0, epochs=20)
        for weight in (0, {"l2-sp": 1000, "delta": 100, "bss": 10, "rkd": 100}[penalty])
    )
    start = images_of().fit(some[0]).transform(some[0])
    head = heavy.net_.module_.head
    start = head.standardise(torch.from_numpy(start))

    def measure(classifier):
        features = head.standardise(torch.from_numpy(classifier.features_.transform(some[0])))
        if penalty == "bss":
            return float(torch.linalg.svdvals(features[:32])[-1])
        if penalty == "rkd":
            return float(relational_penalty(features, start))
        return float((features - start).norm())

    assert measure(heavy) < 0.7 * measure(free)


class Record(Callback):
    """Notes the sum of the first stage's weights after each epoch."""

    def __init__(self, notes):
        self.notes = notes

    def on_epoch_end(self, net, **kwargs):
        stages = net.module_.body.module
        self.notes.append(
            [float(part[0].weight.detach().sum()) for part in (stages.first, stages.second)]
        )


def test_gradual_unfreezing_wakes_one_more_stage_at_a_time(some, monkeypatch):
    notes = []
    monkeypatch.setattr(Record, "__sklearn_clone__", lambda self: self, raising=False)
    tuned(*some, "all", gradual=2, epochs=6, callbacks=[Record(notes)])
    first, second = np.diff(notes, axis=0).T != 0
    assert first.tolist() == [False, False, False, True, True]
    assert second.tolist() == [False, True, True, True, True]


class Count(Callback):
    """Counts its own epochs."""

    def initialize(self):
        self.n_epochs = 0
        return self

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs += 1


def test_own_callbacks_run_as_clones_so_that_a_strategy_can_be_used_again(some):
    own = Count()
    classifier = tuned(*some, callbacks=[own, ("named", Count())])
    counts = dict(classifier.net_.callbacks_)
    assert (counts["own_0"].n_epochs, counts["named"].n_epochs) == (3, 3)
    assert not hasattr(own, "n_epochs")


def test_early_stopping_ends_and_keeps_the_best_epoch(digits):
    X, y = digits[0][:600], digits[1][:600]
    classifier = tuned(X, y, early_stopping=True, epochs=60, patience=2, learning_rate=0.02)
    losses = [epoch["valid_loss"] for epoch in classifier.history_]
    assert len(losses) < 60
    assert len(losses) == np.argmin(losses) + 1 + 2
    # The weights are those of the best epoch: the loss of the held-out rows is its loss.
    net = classifier.net_
    assert net.get_params()["train_split"] is not None
    held_out = net.get_params()["train_split"].keywords["valid_ds"]
    probability = classifier.predict_proba(X[held_out.rows])
    codes = np.searchsorted(classifier.classes_, y[held_out.rows])
    loss = -np.log(probability[np.arange(len(codes)), codes]).mean()
    assert loss == pytest.approx(min(losses), rel=1e-3)


def test_early_stopping_is_off_by_itself_in_small_data_and_on_in_large(digits):
    few = tuned(digits[0][:200], digits[1][:200], "head", epochs=1)
    many = tuned(digits[0], digits[1], "head", epochs=1)
    assert "valid_loss" not in few.history_[0]
    assert "valid_loss" in many.history_[0]


def test_early_stopping_that_is_asked_for_in_tiny_data_is_an_error(some):
    with pytest.raises(ValueError, match="early_stopping=True cannot hold out"):
        tuned(some[0][:40], some[1][:40], early_stopping=True)


def test_augmentation_meets_training_rows_in_every_epoch_and_no_others(digits):
    seen = []

    def change(image):
        seen.append(image)
        return image * 0.9

    X, y = digits[0][:300], digits[1][:300]
    classifier = tuned(X, y, augment=change, epochs=2, early_stopping=True, patience=5)
    assert len(seen) == 2 * 270
    classifier.predict(X)
    assert len(seen) == 2 * 270


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image[:, :4], "an image of the shape that it is given"),
        (lambda image: None, "got NoneType"),
    ],
)
def test_an_augmentation_that_returns_something_else_is_an_error(change, message, some):
    with pytest.raises(ValueError, match=message):
        tuned(*some, augment=change)


@pytest.mark.parametrize("augment", ["light", "strong"])
def test_named_augmentations_train_on_colour_images_too(augment, colour):
    X = np.repeat(colour, 5, axis=0)
    features = PretrainedCNNFeatures(layer="blocks.1", image_size=32, engine="torch")
    fitted = tuned(X, np.arange(30) % 3, 1, features=features, augment=augment, epochs=1)
    assert np.isfinite(fitted.history_[0]["train_loss"])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle", "plateau"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", torch.optim.RAdam])
def test_every_schedule_and_optimizer_learns(schedule, optimizer, some):
    rate = 0.003 if optimizer != "sgd" else 0.03
    classifier = tuned(*some, schedule=schedule, optimizer=optimizer, epochs=8, learning_rate=rate)
    losses = [epoch["train_loss"] for epoch in classifier.history_]
    assert losses[-1] < 0.75 * losses[0]


def test_a_training_that_diverges_says_so_and_leaves_the_estimator_as_it_was(some):
    classifier = tuned(*some)
    before = classifier.predict_proba(some[0])
    wild = FineTune(
        "all", learning_rate=1e30, gradient_clip=None, warmup_epochs=0, optimizer="sgd", guard=False
    )
    with pytest.raises(ValueError, match=r"fine-tuning diverged: .*learning_rate"):
        classifier.set_params(strategy=wild).fit(*some)
    assert_array_equal(classifier.predict_proba(some[0]), before)


class Interrupt(Callback):
    """Presses Ctrl-C in the third epoch."""

    def on_batch_begin(self, net, training=False, **kwargs):
        if len(net.history) == 3:
            raise KeyboardInterrupt


class InterruptAt(Callback):
    """Presses Ctrl-C when an epoch begins or ends, or while a batch is learned."""

    def __init__(self, event, press):
        self.event = event
        self.press = press

    def notify(self, event, net):
        if event == self.event and len(net.history) == 3:
            self.press()

    def on_epoch_begin(self, net, **kwargs):
        self.notify("on_epoch_begin", net)

    def on_batch_end(self, net, **kwargs):
        self.notify("on_batch_end", net)

    def on_epoch_end(self, net, **kwargs):
        self.notify("on_epoch_end", net)


def raise_interrupt():
    raise KeyboardInterrupt


def send_signal():
    # A process that was started in the background may have been told to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("press", [raise_interrupt, send_signal])
@pytest.mark.parametrize("event", ["on_epoch_begin", "on_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("stopping", [[], [EarlyStopping(monitor="train_loss", patience=9)]])
def test_an_interrupt_in_a_callback_is_passed_on_whenever_it_comes(event, press, stopping, some):
    callbacks = [*stopping, InterruptAt(event, press)]
    classifier = FineTunedClassifier(
        images_of(),
        strategy=FineTune("head", epochs=5, callbacks=callbacks, guard=False),
        random_state=0,
    )
    with pytest.raises(KeyboardInterrupt, match="can be used"):
        classifier.fit(*some)
    assert classifier.score(*some) > 0.5
    assert len(classifier.history_) == (3 if event == "on_epoch_end" else 2)


@pytest.mark.parametrize("unfreeze", ["head", "all"])
def test_an_interrupt_leaves_a_usable_estimator(unfreeze, some):
    classifier = FineTunedClassifier(
        images_of(),
        strategy=FineTune(unfreeze, epochs=50, callbacks=[Interrupt()]),
        random_state=0,
    )
    with pytest.raises(KeyboardInterrupt, match="can be used"):
        classifier.fit(*some)
    assert classifier.score(*some) > 0.5
    assert len(classifier.history_) == 2  # whole epochs
    assert not any(p.requires_grad for p in classifier.features_.module_.parameters())
    assert not classifier.features_.module_.training


def test_fitting_does_not_touch_the_network_that_was_given(some):
    own = TwoStages()
    before = copy.deepcopy(own.state_dict())
    tuned(*some, features=images_of(own))
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())


def test_one_row_batches_and_fewer_rows_than_a_batch_are_no_obstacle(some):
    X, y = some[0][:33], some[1][:33]  # batches of 32 would leave one row over
    for penalty in (None, "rkd", "bss", "delta"):
        classifier = tuned(X, y, batch_norm="update", penalty=penalty)
        assert np.isfinite(classifier.predict_proba(X)).all()
    assert tuned(X, y, batch_size=500).score(X, y) > 0


def test_weights_of_rows_act_as_if_the_others_were_not_there(some):
    X, y = some
    weight = np.where(np.arange(len(y)) % 2, 0.0, 3.0)
    strategy = FineTune("all", epochs=2, guard=False)
    weighted = FineTunedClassifier(images_of(), strategy=strategy, random_state=0)
    weighted.fit(X, y, sample_weight=weight)
    fewer = FineTunedClassifier(images_of(), strategy=strategy, random_state=0).fit(X[::2], y[::2])
    assert_allclose(weighted.predict_proba(X), fewer.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("remedy", [{"class_weight": "balanced"}, {"sampler": "balanced"}])
def test_balancing_finds_more_of_a_rare_class(remedy, digits):
    X, y = digits
    rows = np.r_[np.flatnonzero(y == 8)[:6], np.flatnonzero(np.isin(y, [1, 3, 9]))[:240]]
    others = np.flatnonzero(y == 8)[6:]
    # A head at random: the one that "probe" begins with is balanced by the weights, too.
    recalls = []
    for how in ({}, remedy):
        classifier = tuned(X[rows], y[rows], head_init="random", epochs=4, **how)
        recalls.append((classifier.predict(X[others]) == 8).mean())
    assert recalls[1] > recalls[0] + 0.1


def test_images_that_cannot_be_read_are_left_out(some):
    X, y = list(some[0]), some[1]
    X[3] = np.full((8, 8), np.nan)
    strategy = FineTune("all", epochs=2, guard=False)
    classifier = FineTunedClassifier(images_of(on_error="nan"), strategy=strategy, random_state=0)
    with pytest.warns(UserWarning, match="1 of 160 images could not be read"):
        classifier.fit(X, y)
    with pytest.warns(UserWarning, match="1 of 160"):
        probability = classifier.predict_proba(X)
    assert np.isnan(probability[3]).all()
    assert np.isfinite(np.delete(probability, 3, axis=0)).all()
    with (
        pytest.warns(UserWarning, match="1 of 160"),
        pytest.raises(ValueError, match=r"X\[3\] could not be read"),
    ):
        classifier.predict(X)


# --- two domains ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def domains(digits):
    """Digits, and paler ones; the labels of the latter are nonsense."""
    X, y = digits[0][:400].copy(), digits[1][:400].copy()
    X[200:] = 0.6 * X[200:] + 0.2
    y[200:] = -1
    return X, y, np.repeat([1, -1], 200)


@pytest.mark.parametrize(("alignment", "weight"), [("coral", 100.0), ("mmd", 3.0), ("dann", 3.0)])
def test_alignment_brings_the_domains_together(alignment, weight, domains):
    X, y, domain = domains
    features = images_of(layer="second")  # 16 of them, by which domains may overlap
    plain, aligned = (
        tuned(
            X, y, features=features, domain=domain, alignment=alignment, alignment_weight=w,
            epochs=12, learning_rate=3e-3,
        )
        for w in (0, weight)
    )  # fmt: skip

    def measure(classifier):
        values = classifier.features_.transform(X)
        if alignment == "dann":
            return cross_val_score(LogisticRegression(max_iter=500), values, domain).mean()
        values = classifier.net_.module_.head.standardise(torch.from_numpy(values))
        loss = coral_loss if alignment == "coral" else mmd_loss
        return float(loss(values[:200], values[200:]))

    assert measure(aligned) < 0.9 * measure(plain)
    assert list(aligned.classes_) == list(range(10))  # -1 is no class


def test_labels_of_the_target_domain_are_not_looked_at(domains):
    X, y, domain = domains
    other = y.copy()
    other[200:] = np.arange(200) % 10
    first, second = (tuned(X, labels, alignment="mmd", domain=domain) for labels in (y, other))
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_alignment_without_domains_is_an_error(some):
    with pytest.raises(ValueError, match=r"alignment='coral' needs rows of two domains"):
        tuned(*some, alignment="coral")


# --- numbers ----------------------------------------------------------------------------------


def test_regression_learns_and_does_not_depend_on_the_units(some):
    X = some[0]
    y = X.mean(axis=(1, 2)) + X[:, :, :4].mean(axis=(1, 2))
    strategy = FineTune("all", epochs=5, guard=False)
    fits = [
        FineTunedRegressor(images_of(), strategy=strategy, random_state=0).fit(X, scale * y + shift)
        for scale, shift in ((1, 0), (1000, -5e5))
    ]
    predictions = [fit.predict(X) for fit in fits]
    assert fits[0].score(X, y) > 0.9
    assert_allclose((predictions[1] + 5e5) / 1000, predictions[0], atol=1e-3)


def test_a_network_without_weights_cannot_be_unfrozen(some):
    class Flat(nn.Module):
        def forward(self, x):
            return x.flatten(1)

    with pytest.raises(ValueError, match="unfreeze=1 selects no weight"):
        tuned(*some, 1, features=images_of(Flat, layer="output"))


# --- what a review found ------------------------------------------------------------------------


def test_stopping_by_an_own_callback_is_no_interrupt(some):
    stop = EarlyStopping(
        monitor="train_loss", patience=2, threshold=10, threshold_mode="abs", sink=lambda _: None
    )
    classifier = tuned(*some, epochs=20, callbacks=[stop])
    assert len(classifier.history_) == 3
    assert classifier.score(*some) > 0.5


def test_stages_without_weights_are_no_stages(some):
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )  # fmt: skip
    classifier = tuned(*some, 1, features=images_of(net, layer="output"))
    assert classifier.trained_parameters_ == ("2.weight", "2.bias")


def test_gradual_unfreezing_that_never_begins_is_an_error(some):
    with pytest.raises(ValueError, match=r"gradual must be less than epochs=3.*gradual=5"):
        tuned(*some, "all", gradual=5, epochs=3)


def test_only_what_was_awake_in_the_end_counts_as_trained(some, source):
    classifier = tuned(*some, "all", gradual=2, epochs=3)
    assert {name.split(".")[0] for name in classifier.trained_parameters_} == {"second"}
    found = weights_of(classifier)
    assert all(np.array_equal(source[n], found[n]) for n in source if n.startswith("first"))
    sizes = [found[name].size for name in classifier.trained_parameters_]
    head = classifier.coef_.size + classifier.intercept_.size
    assert classifier.n_trained_parameters_ == sum(sizes) + head


def test_gradual_unfreezing_skips_stages_that_have_nothing_to_train(some, source):
    found = weights_of(tuned(*some, "first", gradual=1, epochs=2))
    assert not np.array_equal(found["first.0.weight"], source["first.0.weight"])


class Tied(nn.Module):
    """Two layers share a weight, of which the later one has the first name."""

    def __init__(self):
        super().__init__()
        late, early = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU())
        self.late = nn.ModuleDict({"conv": nn.Sequential(late, nn.ReLU())})
        self.early = nn.Sequential(early, nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU())
        early.weight = late.weight

    def forward(self, x):
        return self.late["conv"](self.middle(self.early(self.stem(x)))).flatten(1)


def test_a_tied_weight_is_not_cut_off_by_the_cached_trunk(some):
    found = [
        tuned(
            *some, "late.conv", features=images_of(Tied, layer="output"), cache_trunk=cached,
            learning_rate=0.01,
        ).predict_proba(some[0])
        for cached in (True, False)
    ]  # fmt: skip
    assert_allclose(found[0], found[1], atol=1e-3)


def test_mixup_keeps_the_weight_of_a_rare_class():
    # Of the loss, classes of 100 and 900 rows with balanced weights have one half each.
    y = (np.arange(1000) < 100).astype(int)
    targets = encode_targets(y, n_rows=1000, class_weight="balanced")
    inputs = ArrayInputs(np.zeros((1000, 1), "f4"), (1,))
    rows = TrainingRows(inputs, targets, np.arange(1000), seed=0, mixup=1.0)
    share = np.zeros(2)
    for _ in range(20):
        for _, t in Batches(rows, 100):
            own, other = t["values"] * t["weights"][:, None], t["other_values"]
            other = other * t["other_weights"][:, None]
            share += torch.lerp(other, own, t["share"][:, None]).sum(0).numpy()
    assert_allclose(share / share.sum(), 0.5, atol=0.02)


def test_a_transformer_can_be_told_that_whole_numbers_are_numbers(some):
    X = some[0]
    price = np.round(X.mean((1, 2)) * 1000)
    strategy = FineTune("all", epochs=1, task="regression", guard=False)
    features = images_of(strategy=strategy).fit(X, price)
    module = features.module_
    weights = sum(p.numel() for part in (module.first, module.second) for p in part.parameters())
    assert features.n_trained_parameters_ == weights + 257  # a head of one output


@pytest.mark.parametrize("bad", [-1, np.nan])
def test_class_weights_that_are_none_are_errors(bad, some):
    with pytest.raises(ValueError, match="class_weight must be finite and not negative"):
        tuned(*some, class_weight={3: bad})


def test_rows_without_weight_do_not_balance(some):
    X, y = some
    weight = np.where(np.arange(160) < 80, 1.0, 0.0)
    strategy = FineTune("all", epochs=2, class_weight="balanced", guard=False)
    weighted = FineTunedClassifier(images_of(), strategy=strategy, random_state=0)
    fewer = FineTunedClassifier(images_of(), strategy=strategy, random_state=0)
    assert_allclose(
        weighted.fit(X, y, sample_weight=weight).predict_proba(X),
        fewer.fit(X[:80], y[:80]).predict_proba(X),
        atol=1e-4,
    )


def test_unreadable_rows_that_leave_nothing_to_learn_are_errors(some):
    broken = np.full((8, 8), np.nan)
    X, y = [*some[0][:6], *[broken] * 6], np.repeat([0, 1], 6)
    features = images_of(on_error="nan")
    with (
        pytest.warns(UserWarning, match="6 of 12 images"),
        pytest.raises(ValueError, match="2 classes, and of 12 rows, 6 .* all of one class"),
    ):
        tuned(X, y, features=features)
    domain = np.repeat([1, -1], 6)
    with (
        pytest.warns(UserWarning, match="6 of 12 images"),
        pytest.raises(ValueError, match="no row of the target could be read"),
    ):
        tuned(X, np.arange(12) % 2, features=features, alignment="mmd", domain=domain)


class Rates(Callback):
    """Notes the learning rate of every step."""

    seen: list = []  # noqa: RUF012

    def on_batch_begin(self, net, training=False, **kwargs):
        self.seen.append(net.optimizer_.param_groups[0]["lr"])


def test_rates_rise_over_a_quarter_of_the_steps_if_there_are_few(some):
    # A rise of one epoch, which of 64 rows is two steps, destroyed the features.
    Rates.seen.clear()
    tuned(some[0][:64], some[1][:64], epochs=10, schedule="constant", callbacks=[Rates()])
    expected = np.r_[np.arange(1, 6) / 6, np.ones(15)] * 1e-3
    assert_allclose(Rates.seen, expected)


def test_rates_rise_over_a_quarter_of_the_steps_at_most(some):
    # A rise of one epoch out of two left half of the training at lower rates.
    Rates.seen.clear()
    how = {"batch_size": 1, "warmup_epochs": 5, "schedule": "constant"}
    tuned(some[0][:60], some[1][:60], epochs=2, callbacks=[Rates()], **how)
    n_steps = len(Rates.seen)
    assert Rates.seen[n_steps // 4] == pytest.approx(1e-3)
    assert Rates.seen[n_steps // 4 - 1] < 1e-3
