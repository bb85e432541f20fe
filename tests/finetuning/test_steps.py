"""What happens between the steps of a training, against closed forms."""

import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge
from skorch import NeuralNet
from torch import nn

from sktransfer.finetuning.batches import ArrayInputs, Batches, TrainingRows
from sktransfer.finetuning.network import Body, LinearHead, TunedNetwork
from sktransfer.finetuning.objective import Objective, TaskLoss
from sktransfer.finetuning.penalties import PullToSource
from sktransfer.finetuning.steps import (
    LinearWarmup,
    ProgressMonitor,
    UnfreezeGradually,
    optimizer_for,
)
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.targets import encode_targets
from sktransfer.finetuning.training import tune
from sktransfer.finetuning.unfreezing import Stages

RNG = np.random.RandomState(0)


class Plain(Body):
    """A sequence of layers, each of which is a stage."""

    def __init__(self, *layers):
        super().__init__()
        self.module = nn.Sequential(*layers)
        names = [name for name, _ in self.module.named_parameters()]
        stages = tuple(dict.fromkeys(name.split(".")[0] for name in names))
        self.stages = Stages(stages, {name: stages.index(name.split(".")[0]) for name in names})

    def forward(self, batch):
        return self.module(batch)


def network_of(*layers, n_features=3, n_outputs=2, trained=None):
    body = Plain(*layers)
    coef = RNG.normal(size=(n_outputs, n_features))
    head = LinearHead(np.zeros(n_features), np.ones(n_features), coef, np.zeros(n_outputs))
    trained = tuple(body.stages.of) if trained is None else trained
    return TunedNetwork(body, head, trained, "frozen", None)


def three_layers():
    return (
        nn.Linear(4, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
        nn.BatchNorm1d(3),
        nn.ReLU(),
        nn.Linear(3, 3),
    )


def net_of(
    network,
    callbacks,
    *,
    X=None,
    y=None,
    task="regression",
    lr=0.1,
    epochs=1,
    batch_size=1000,
    optimizer=torch.optim.SGD,
):
    """A skorch net such as fine-tuning makes, and what it is fitted to."""
    X = RNG.normal(size=(24, 4)).astype(np.float32) if X is None else X
    y = RNG.normal(size=(len(X), 2)) if y is None else y
    unscaled = (np.zeros(np.ndim(y)), np.ones(np.ndim(y)))
    targets = encode_targets(y, n_rows=len(X), task=task, location=unscaled)
    dataset = TrainingRows(ArrayInputs(X, X.shape[1:]), targets, np.arange(len(X)), seed=0)
    n_features = network.head.weight.shape[1]
    objective = Objective(TaskLoss(targets.task, 0.0), None, 0, None, 0, n_features)
    build = optimizer_for(network, optimizer, layer_decay=1, weight_decay=0, body_decay=0)
    net = NeuralNet(
        module=network,
        criterion=objective,
        optimizer=build,
        lr=lr,
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train=Batches,
        train_split=None,
        callbacks=callbacks,
        device="cpu",
        verbose=0,
    )
    return net, dataset


def copies(network):
    return {name: p.detach().clone() for name, p in network.trained_parameters().items()}


# --- L2-SP ------------------------------------------------------------------------------------


def one_step(weight, lr=0.1):
    """Weights that plain descent reaches, and those with the pull."""
    source = None
    reached = []
    for pulled in (False, True):
        torch.manual_seed(0)
        network = network_of(*three_layers())
        network.head.weight.data.fill_(0.5)
        if source is None:
            source = {name: p + 1 for name, p in copies(network).items()}
        X, y = np.ones((6, 4), np.float32), np.arange(12.0).reshape(6, 2)
        callbacks = [("pull", PullToSource(source, weight))] if pulled else []
        net, dataset = net_of(network, callbacks, X=X, y=y, lr=lr)
        net.fit(dataset)
        reached.append(copies(network))
    return source, *reached


def test_an_infinite_weight_is_the_source_exactly():
    source, plain, pulled = one_step(math.inf)
    for name, start in source.items():
        assert torch.equal(pulled[name], start)
        assert not torch.equal(plain[name], start)


def test_a_weight_of_zero_leaves_the_weights_untouched():
    _, plain, pulled = one_step(0.0)
    for name, reached in plain.items():
        assert torch.equal(pulled[name], reached)


@pytest.mark.parametrize(("weight", "lr"), [(0.3, 0.1), (7.0, 0.01), (1e6, 0.1)])
def test_the_pull_is_the_proximal_step_of_the_penalty(weight, lr):
    source, plain, pulled = one_step(weight, lr)
    for name, reached in plain.items():
        # The minimiser of ||w - reached||^2 / (2 lr) + weight / 2 ||w - source||^2.
        expected = (reached + lr * weight * source[name]) / (1 + lr * weight)
        assert_allclose(pulled[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.05, 1.0, 30.0])
def test_plain_descent_with_the_pull_ends_at_the_minimum_of_loss_plus_penalty(weight):
    n, d = 50, 4
    X = RNG.normal(size=(n, d)).astype(np.float32)
    start = RNG.normal(size=d)
    y = X @ RNG.normal(size=d) + 0.3 * RNG.normal(size=n)
    # The body is the linear model; the head passes on what it gives.
    network = network_of(nn.Linear(d, 1, bias=False), n_features=1, n_outputs=1)
    network.body.module[0].weight.data[:] = torch.from_numpy(start)
    network.head.weight.data.fill_(1.0)
    draw = PullToSource(copies(network), weight)

    class HeadStays(torch.optim.SGD):
        def step(self, closure=None):
            loss = closure()
            network.head.weight.grad = network.head.bias.grad = None
            super().step()
            return loss

    net, dataset = net_of(network, [("pull", draw)], X=X, y=y, epochs=250, optimizer=HeadStays)
    net.fit(dataset)
    found = network.body.module[0].weight.detach().numpy()[0]
    # mean (y - Xw)^2 + weight / 2 ||w - w0||^2 is n times smaller than what Ridge minimises.
    ridge = Ridge(alpha=n * weight / 2, fit_intercept=False).fit(X, y - X @ start)
    assert_allclose(found, start + ridge.coef_, atol=1e-4)
    gram = 2 / n * X.T @ X + weight * np.eye(d)
    assert_allclose(found, np.linalg.solve(gram, 2 / n * X.T @ y + weight * start), atol=1e-4)


class Table:
    """Rows to tune a body on."""

    device = torch.device("cpu")

    def __init__(self, body, X):
        self.body, self.X = body, X

    def __len__(self):
        return len(self.X)

    def inputs(self, trained, strategy):
        return ArrayInputs(self.X, self.X.shape[1:]), np.ones(len(self.X), dtype=bool)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_pull_of_a_step_is_at_the_rate_of_that_step(schedule):
    draw, rate = np.random.RandomState(0), 0.1
    X = draw.normal(size=(12, 4)).astype(np.float32)
    y = X.sum(1) + 0.3 * draw.normal(size=12)
    torch.manual_seed(0)
    linear = nn.Linear(4, 3)
    reached = []
    for penalty in (None, "l2-sp"):
        body = Plain(nn.Linear(4, 3))
        body.module[0].load_state_dict(linear.state_dict())
        strategy = FineTune(
            unfreeze="all",
            epochs=1,
            learning_rate=rate,
            schedule=schedule,
            warmup_epochs=0,
            weight_decay=0.0,
            head_init="random",
            optimizer=torch.optim.SGD,
            penalty=penalty,
            penalty_weight=None if penalty is None else 5.0,
        )
        tune(Table(body, X), encode_targets(y, n_rows=12), strategy, 0)
        reached.append(body.module[0].weight.detach())
    pull = rate * 5.0
    assert not torch.allclose(reached[0], linear.weight, atol=1e-3)
    expected = (reached[0] + pull * linear.weight.detach()) / (1 + pull)
    assert_allclose(reached[1], expected, atol=1e-6)


def test_what_is_not_yet_unfrozen_is_not_drawn():
    network = network_of(*three_layers())
    network.unfreeze_from(3)
    before = copies(network)
    source = {name: p + 1 for name, p in before.items()}
    net, dataset = net_of(network, [("pull", PullToSource(source, math.inf))])
    net.fit(dataset)
    after = copies(network)
    assert {name for name in before if torch.equal(after[name], source[name])} == {
        "5.weight",
        "5.bias",
    }
    assert all(torch.equal(after[n], before[n]) for n in before if not n.startswith("5."))


# --- optimizer --------------------------------------------------------------------------------


def settings(network, **parameters):
    """(rate, weight decay) of each parameter by name."""
    given = {"layer_decay": 1.0, "weight_decay": 0.1, "body_decay": 0.1, **parameters}
    objective = given.pop("objective", None)
    build = optimizer_for(network, torch.optim.SGD, **given)
    groups = [{"params": list(network.parameters())}]
    named = dict(network.named_parameters())
    if objective is not None:
        groups.append({"params": list(objective.parameters())})
        named |= {f"criterion.{name}": p for name, p in objective.named_parameters()}
    names = {id(p): name for name, p in named.items()}
    optimizer = build(groups, lr=0.5)
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert id(parameter) in names
            name = names[id(parameter)].removeprefix("body.module.")
            assert name not in found
            found[name] = (group["lr"], group["weight_decay"])
    return found


def test_rates_fall_by_a_factor_from_each_stage_to_the_one_before():
    found = settings(network_of(*three_layers()), layer_decay=0.3)
    rates = {name: rate for name, (rate, _) in found.items()}
    expected = {"head": 0.5, "5": 0.5, "3": 0.5 * 0.3, "2": 0.5 * 0.09, "0": 0.5 * 0.027}
    assert len(rates) == 10
    for name, rate in rates.items():
        assert rate == pytest.approx(expected[name.split(".")[0]]), name


def test_vectors_have_no_weight_decay():
    found = settings(network_of(*three_layers()), weight_decay=0.1, body_decay=0.2)
    decays = {name: decay for name, (_, decay) in found.items()}
    matrices = {"0.weight": 0.2, "2.weight": 0.2, "5.weight": 0.2, "head.weight": 0.1}
    assert decays == {name: matrices.get(name, 0.0) for name in found}


def test_what_is_not_to_be_trained_is_not_given_to_the_optimizer():
    network = network_of(*three_layers(), trained=("5.weight", "3.bias"))
    found = settings(network, layer_decay=0.5)
    assert set(found) == {"5.weight", "3.bias", "head.weight", "head.bias"}
    assert found["3.bias"] == (0.25, 0.0)


def test_a_discriminator_of_domains_is_trained_at_the_full_rate():
    objective = Objective(TaskLoss("regression", 0.0), None, 0, "dann", 1.0, 3)
    found = settings(network_of(*three_layers()), layer_decay=0.1, objective=objective)
    rates = [rate for name, (rate, _) in found.items() if name.startswith("criterion.")]
    assert rates == [0.5] * 4


def test_weights_that_are_unfrozen_later_are_in_the_optimizer_from_the_beginning():
    network = network_of(*three_layers())
    network.unfreeze_from(4)
    assert len(settings(network)) == 10


# --- rates, stages, and what is watched -------------------------------------------------------


class Noted(nn.Module):
    """What a callback sees of a net."""

    def __init__(self, *rates):
        super().__init__()
        parameters = [nn.Parameter(torch.zeros(1)) for _ in rates]
        self.optimizer_ = torch.optim.SGD(
            [{"params": [p], "lr": r} for p, r in zip(parameters, rates, strict=True)]
        )

    @property
    def rates(self):
        return [group["lr"] for group in self.optimizer_.param_groups]


def test_rates_rise_once_to_their_heights_and_stay_there():
    net, rise = Noted(0.1, 0.4), LinearWarmup(3)
    rise.on_train_begin(net)
    seen = []
    for _ in range(6):
        rise.on_batch_begin(net, training=True)
        seen.append(net.rates)
    shares = [0.25, 0.5, 0.75, 1, 1, 1]
    assert_allclose(seen, np.outer(shares, [0.1, 0.4]))
    rise.on_train_begin(net)
    rise.on_batch_begin(net, training=True)
    assert_allclose(net.rates, [0.025, 0.1])
    rise.on_train_end(net)
    assert net.rates == [0.1, 0.4]


@pytest.mark.parametrize(
    ("every", "first"), [(1, [3, 2, 1, 0, 0, 0]), (2, [3, 3, 2, 2, 1, 1]), (9, [3] * 6)]
)
def test_stages_are_unfrozen_one_by_one_from_the_deepest_after_the_head(every, first):
    layers = (nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    network = network_of(*layers)
    gradual = UnfreezeGradually([2, 1, 0], every)
    seen = []

    class Note(UnfreezeGradually):
        def on_batch_begin(self, net, **kwargs):
            moving = [i for i in range(3) if network.body.module[i].weight.requires_grad]
            seen.append(min(moving, default=3))
            assert moving == list(range(seen[-1], 3))

    note = Note([2, 1, 0], every)
    net, dataset = net_of(network, [("unfreeze", gradual), ("note", note)], epochs=6)
    before = copies(network)
    net.fit(dataset)
    assert seen == first
    still = [name for name, p in copies(network).items() if torch.equal(p, before[name])]
    assert still == [name for name in before if int(name[0]) < min(first)]


def test_a_second_training_begins_with_the_head_alone_again():
    network = network_of(nn.Linear(4, 3))
    gradual = UnfreezeGradually([0], 1)
    for _ in range(2):
        gradual.on_train_begin(None)
        for frozen in (True, False):
            net = type("Net", (), {"module_": network})
            gradual.on_epoch_begin(net)
            assert network.body.module[0].weight.requires_grad != frozen


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training_with_advice(bad):
    network = network_of(*three_layers())
    X = np.full((6, 4), bad, dtype=np.float32)
    watch = ProgressMonitor(10, 1, None, 0.25)
    net, dataset = net_of(network, [("monitor", watch)], X=X)
    with pytest.raises(ValueError, match="diverged: the loss of step 1 is nan.*learning_rate=0.25"):
        net.fit(dataset)


def test_a_training_that_diverges_later_says_at_which_step():
    network = network_of(*three_layers())
    watch = ProgressMonitor(100, 50, None, 1e12)
    net, dataset = net_of(network, [("monitor", watch)], lr=1e12, epochs=50)
    with pytest.raises(ValueError, match=r"loss of step ([2-9]|\d\d) is (nan|inf)"):
        net.fit(dataset)


def test_the_objective_is_told_how_far_the_training_is():
    network = network_of(*three_layers())
    progress = []

    class Note(ProgressMonitor):
        def on_batch_end(self, net, training=False, **kwargs):
            super().on_batch_end(net, training=training, **kwargs)
            progress.append(net.criterion_.progress)

    watch = Note(6, 2, None, 0.1)
    net, dataset = net_of(network, [("monitor", watch)], epochs=2, batch_size=8)
    net.fit(dataset)
    assert_allclose(progress, np.arange(1, 7) / 6)


def test_a_net_that_is_watched_shows_its_epochs_and_can_be_pickled_afterwards(capsys):
    network = network_of(*three_layers())
    watch = ProgressMonitor(2, 2, "tuning", 0.1)
    net, dataset = net_of(network, [("monitor", watch)], epochs=2)
    net.fit(dataset)
    shown = capsys.readouterr().err
    assert "tuning" in shown
    assert "2/2" in shown
    assert "train_loss" in shown
    assert pickle.loads(pickle.dumps(watch)).n_epochs == 2


def test_momentum_and_the_like_pass_through_to_the_optimizer():
    build = partial(torch.optim.SGD, momentum=0.9, nesterov=True)
    network = network_of(*three_layers())
    optimizer = optimizer_for(network, build, layer_decay=1, weight_decay=0, body_decay=0)(
        [{"params": list(network.parameters())}], lr=0.1
    )
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
    assert_array_equal([group["lr"] for group in optimizer.param_groups], 0.1)
