"""States layer by layer and direction by direction, against torch's own networks."""

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.sequences.encoding import Encoder, backward_units, check_module

KINDS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
    "relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
    "projected": lambda *a, **k: nn.LSTM(*a, proj_size=3, **k),
}


def steps(time=9, rows=4, channels=2):
    return torch.from_numpy(np.random.RandomState(0).normal(size=(time, rows, channels))).float()


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_last_layer_is_what_torch_puts_out(kind, bidirectional, bias):
    rnn = KINDS[kind](2, 5, 3, bidirectional=bidirectional, bias=bias, dropout=0.5).eval()
    (states,) = Encoder(rnn, (2,), "float32")(steps(), torch.full((4,), 9))
    torch.testing.assert_close(states, rnn(steps())[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_lower_layer_is_the_network_without_the_upper_ones(bidirectional):
    rnn = nn.GRU(2, 5, 3, bidirectional=bidirectional)
    lower = nn.GRU(2, 5, 2, bidirectional=bidirectional)
    lower.load_state_dict({k: v for k, v in rnn.state_dict().items() if "_l2" not in k})
    first, second = Encoder(rnn, (1, 2), "float32")(steps(), torch.full((4,), 9))
    torch.testing.assert_close(first, lower(steps())[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(second, rnn(steps())[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_padding_changes_no_state_of_a_bidirectional_network(kind):
    rnn = KINDS[kind](2, 5, 2, bidirectional=True)
    lengths = torch.tensor([9, 1, 4, 6])
    (states,) = Encoder(rnn, (1,), "float32")(steps(), lengths)
    for row, length in enumerate(lengths):
        alone = rnn(steps()[:length, row : row + 1])[0]
        torch.testing.assert_close(states[:length, row : row + 1], alone, atol=1e-5, rtol=0)


def test_the_users_network_is_left_as_it_was():
    rnn = nn.LSTM(2, 5, 2).train()
    before = {name: tensor.clone() for name, tensor in rnn.state_dict().items()}
    Encoder(rnn, (0,), "bfloat16")(steps(), torch.full((4,), 9))
    assert rnn.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in rnn.parameters())
    for name, tensor in rnn.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_bfloat16_is_close_and_comes_back_as_float32(kind):
    rnn = KINDS[kind](2, 16)
    exact = rnn(steps())[0].detach()
    (states,) = Encoder(rnn, (0,), "bfloat16")(steps(), torch.full((4,), 9))
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, exact, atol=0.05, rtol=0)


class Own(nn.Module):
    """Convolution, then a recurrent network, then a vector if asked."""

    def __init__(self, vector=False, batch_first=True):
        super().__init__()
        self.convolution = nn.Conv1d(2, 6, 3, stride=2)
        self.rnn = nn.GRU(6, 4, batch_first=batch_first)
        self.vector = vector

    def forward(self, x):
        x = self.convolution(x.transpose(1, 2)).transpose(1, 2)
        states, last = self.rnn(x)
        return last[0] if self.vector else (states, last)


def test_other_modules_run_batch_first_and_may_stride():
    module = Own().eval()
    states, inner = Encoder(module, (-1, "rnn"), "float32")(steps(), torch.full((4,), 9))
    torch.testing.assert_close(states, module(steps().transpose(0, 1))[0].transpose(0, 1))
    torch.testing.assert_close(inner, states)
    assert Encoder(module, (-1,), "float32").equal_lengths


def test_a_vector_counts_as_a_single_step():
    (states,) = Encoder(Own(vector=True).eval(), (-1,), "float32")(steps(), torch.full((4,), 9))
    assert states.shape == (1, 4, 4)


def test_a_module_that_mixes_rows_is_found_out():
    with torch.inference_mode():
        check_module(Encoder(Own().eval(), (-1,), "float32"), steps(rows=1))
        wrong = Encoder(Own(batch_first=False).eval(), (-1,), "float32")
        with pytest.raises(ValueError, match="other features in company.*batch_first=True"):
            check_module(wrong, steps(rows=1))


def test_what_is_neither_states_nor_vectors_is_refused():
    class Wrong(nn.Module):
        def forward(self, x):
            return x.sum()

    with pytest.raises(ValueError, match=r"must put out \(batch, time, units\)"):
        Encoder(Wrong(), (-1,), "float32")(steps(), torch.full((4,), 9))


# --- units that read from the end ---------------------------------------------------------------


class Wrapped(nn.Module):
    """A bidirectional network of one's own, in one of several forms."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        self.rnn = nn.LSTM(2, 3, 2, batch_first=form != "time first", bidirectional=True)
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        if self.form == "time first":
            return self.rnn(x.transpose(0, 1))[0].transpose(0, 1)
        if self.form == "packed":
            lengths = torch.full((len(x),), x.shape[1])
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            states = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]
            return states
        states, (hidden, cells) = self.rnn(x)
        if self.form == "beside its input":
            return torch.cat([x, states], 2)
        if self.form == "one direction":
            return states[:, :, 3:]
        if self.form == "mixed":
            return self.linear(states)
        return {
            "states": states, "all": (states, (hidden, cells)), "hidden": (states, hidden)
        }[self.form]  # fmt: skip


class Cells(nn.Module):
    """Both directions written by hand, which returns (output, h_n) as torch does."""

    def __init__(self):
        super().__init__()
        self.forwards, self.backwards = nn.GRUCell(2, 3), nn.GRUCell(2, 3)

    def forward(self, x):
        there, back = x.new_zeros(len(x), 3), x.new_zeros(len(x), 3)
        states = [[], []]
        for step in range(x.shape[1]):
            there = self.forwards(x[:, step], there)
            back = self.backwards(x[:, -1 - step], back)
            states[0].append(there)
            states[1].insert(0, back)
        both = [torch.stack(direction, 1) for direction in states]
        return torch.cat(both, 2), torch.stack([there, back])


FORWARD_THEN_BACKWARD = [False] * 3 + [True] * 3


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        *[(Wrapped(form), FORWARD_THEN_BACKWARD)
          for form in ("states", "all", "hidden", "time first", "packed")],
        (Wrapped("beside its input"), [False] * 2 + FORWARD_THEN_BACKWARD),
        (Wrapped("one direction"), [True] * 3),
        (Cells(), FORWARD_THEN_BACKWARD),
        (nn.RNN(2, 3, bidirectional=True, nonlinearity="relu"), FORWARD_THEN_BACKWARD),
    ],
    ids=lambda given: getattr(given, "form", type(given).__name__),
)  # fmt: skip
def test_units_that_read_from_the_end_are_found_in_any_module(module, expected):
    with torch.inference_mode():
        (found,) = backward_units(
            Encoder(module.eval(), (_output(module),), "float32"), steps(9, 1)
        )
    np.testing.assert_array_equal(found, expected)


def _output(module):
    return 0 if isinstance(module, nn.RNNBase) else -1


@pytest.mark.parametrize("n_steps", [1, 2, 9])
def test_a_layer_inside_is_looked_at_like_the_output(n_steps):
    encoder = Encoder(Wrapped("mixed").eval(), (-1, "rnn"), "float32")
    with torch.inference_mode():
        output, inside = backward_units(encoder, steps(n_steps, 1))
    assert not output.any()  # its units see both directions
    np.testing.assert_array_equal(inside, FORWARD_THEN_BACKWARD)


def test_no_unit_of_other_networks_reads_from_the_end():
    with torch.inference_mode():
        for module in (Own().eval(), Own(vector=True).eval(), nn.GRU(2, 3), nn.Linear(2, 3)):
            encoder = Encoder(module, (_output(module),), "float32")
            assert backward_units(encoder, steps(9, 1)) == ()
