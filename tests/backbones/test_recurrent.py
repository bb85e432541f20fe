"""Recurrent networks: initialisation, files of ours, and files from elsewhere."""

import math

import pytest
import safetensors.torch
import torch
from torch import nn

from sktransfer.backbones.recurrent import SHIPPED, load_recurrent, save_network
from sktransfer.exceptions import WeightsMismatchError, WeightsNotFoundError
from sktransfer.sequences.recurrent import KINDS, RecurrentNetwork, Shape


@pytest.mark.parametrize("kind", KINDS)
def test_initialisation_depends_on_the_seed_alone_and_moves_no_generator(kind):
    shape = Shape(kind, 1, 8, 2, bidirectional=True)
    state = torch.get_rng_state()
    one, same, other = (RecurrentNetwork.initialised(shape, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b, c in zip(*(n.parameters() for n in (one, same, other)), strict=True):
        assert torch.equal(a, b)
        assert not a.any() or not torch.equal(a, c)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_memories_fade_over_one_to_sixty_four_steps(kind):
    size = 1000
    network = RecurrentNetwork.initialised(Shape(kind, 1, size), 0)
    keep = torch.sigmoid(network.rnn.bias_ih_l0[size : 2 * size])
    time_scale = 1 / (1 - keep)
    assert 1 < time_scale.min() < 1.2
    assert 55 < time_scale.max() <= 64.01
    # Uniform in the logarithm: half of them below the geometric mean of the limits.
    assert float((time_scale < math.sqrt(64)).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_recurrent_blocks_are_orthogonal_and_the_candidate_is_scaled():
    network = RecurrentNetwork.initialised(Shape("gru", 1, 16), 0)
    for block, scale in zip(network.rnn.weight_hh_l0.split(16), (1, 1, 1.3), strict=True):
        torch.testing.assert_close(block @ block.T, scale**2 * torch.eye(16), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", SHIPPED)
def test_shipped_weights_fit_a_univariate_network_and_are_small(kind):
    network, _ = load_recurrent(SHIPPED[kind])
    assert network.shape.kind == kind
    assert network.shape.input_size == 1
    assert sum(path.stat().st_size for path in SHIPPED.values()) < 4_000_000


@pytest.mark.parametrize(
    "shape",
    [
        Shape("lstm", 3, 4, 2, bidirectional=True, bias=False, proj_size=2, attention=True),
        Shape("gru", 5, 4, vocabulary_size=7),
        Shape("rnn", 1, 4),
    ],
)
def test_a_saved_network_comes_back_as_it_was(shape, tmp_path):
    network = RecurrentNetwork.initialised(shape, 0)
    save_network(network, tmp_path / "weights.safetensors")
    again, sha256 = load_recurrent(tmp_path / "weights.safetensors")
    assert again.shape == shape
    assert len(sha256) == 64
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("prefix", [None, "encoder.rnn.", "encoder.rnn"])
def test_a_foreign_checkpoint_is_read_into_the_right_shape(suffix, prefix, tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(11, 6)
            self.encoder = nn.ModuleDict({"rnn": nn.LSTM(6, 4, 2, bidirectional=True)})
            self.head = nn.Linear(8, 3)

    model, path = Model(), tmp_path / f"model.{suffix}"
    if suffix == "pt":
        torch.save({"state_dict": model.state_dict(), "epoch": torch.tensor(3)}, path)
    else:
        safetensors.torch.save_file(model.state_dict(), path)
    network, _ = load_recurrent(path, prefix, vocabulary_size=11)
    assert network.shape == Shape("lstm", 6, 4, 2, bidirectional=True, vocabulary_size=11)
    tokens = torch.tensor([[1, 2], [10, 0]])
    expected = model.encoder["rnn"](model.embedding(tokens))[0]
    torch.testing.assert_close(network(tokens), expected)


def saved(tmp_path, state):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


def test_what_a_foreign_file_lacks_is_said(tmp_path):
    two = {f"{name}.{k}": v for name in "ab" for k, v in nn.GRU(2, 3).state_dict().items()}
    with pytest.raises(WeightsMismatchError, match=r"one of its recurrent.*'a\.', 'b\.'"):
        load_recurrent(saved(tmp_path, two))
    with pytest.raises(WeightsMismatchError, match=r"weights_prefix='c'.*'a\.', 'b\.'"):
        load_recurrent(saved(tmp_path, two), "c")
    with pytest.raises(WeightsMismatchError, match=r"no recurrent network.*there are: none"):
        load_recurrent(saved(tmp_path, nn.Linear(2, 3).state_dict()))
    state = nn.GRU(2, 3, 2).state_dict()
    del state["weight_hh_l1"]
    with pytest.raises(WeightsMismatchError, match=r"1 missing: rnn\.weight_hh_l1"):
        load_recurrent(saved(tmp_path, state))
    state = {"weight_ih_l0": torch.ones(7, 2), "weight_hh_l0": torch.ones(7, 3)}
    with pytest.raises(WeightsMismatchError, match="7 rows for 3 hidden units"):
        load_recurrent(saved(tmp_path, state))
    with pytest.raises(WeightsMismatchError, match="exactly one embedding.*vocabulary_size=5"):
        load_recurrent(saved(tmp_path, nn.GRU(2, 3).state_dict()), None, 5)
    with pytest.raises(WeightsNotFoundError, match="no weights file"):
        load_recurrent(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight_ih_l0": torch.ones(8), "weight_hh_l0": torch.ones(8, 2)}, "no matrix weight_ih"),
        ({"weight_ih_l0": torch.ones(0, 2), "weight_hh_l0": torch.ones(0, 0)}, "no matrix"),
        (
            {**nn.GRU(1, 2).state_dict(), "weight_hh_l0": torch.full((6, 2), torch.nan)},
            "hold NaN or infinity",
        ),
    ],
)
def test_a_broken_file_is_refused_by_name(state, message, tmp_path):
    with pytest.raises(WeightsMismatchError, match=message):
        load_recurrent(saved(tmp_path, state))


def test_a_head_of_the_embeddings_shape_is_no_embedding(tmp_path):
    state = {**nn.GRU(8, 3).state_dict(), "head.weight": torch.ones(10, 8)}
    with pytest.raises(WeightsMismatchError, match="'emb' in its name; found none"):
        load_recurrent(saved(tmp_path, state), None, 10)
    state["embedding.weight"] = torch.zeros(10, 8)
    network, _ = load_recurrent(saved(tmp_path, state), None, 10)
    assert not network.embedding.weight.any()


def test_weights_are_saved_as_safetensors_only(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        save_network(nn.GRU(1, 2), tmp_path / "weights.pt")
