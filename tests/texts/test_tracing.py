"""Layers of networks for text, whether they see padding, and what engines are compared on."""

import pytest
import torch
import transformers

from sktransfer.backbones.language import load_language
from sktransfer.texts.tracing import trace_of
from tests.helpers.languages import write_language

SEE_PADDING = {
    "FNet": {},
    "ConvBert": {"embedding_size": 8},
    "Nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8},
    "MobileBert": {"embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8},
}


def traced(tmp_path, kind, **config):
    return trace_of(load_language(write_language(tmp_path, kind, **config)).module)


@pytest.mark.parametrize("kind", SEE_PADDING)
def test_networks_that_see_padding_are_found_by_trying(kind, tmp_path):
    trace = traced(tmp_path, kind, **SEE_PADDING[kind])
    assert trace.sees_padding
    assert trace.examples()[-1][1].all()  # rows of one length run together


@pytest.mark.parametrize(
    ("kind", "config"),
    [("Bert", {}), ("Albert", {"embedding_size": 8, "pad_token_id": 0}), ("GPT2", {"n_head": 2})],
)
def test_networks_that_heed_the_mask_run_beside_padding(kind, config, tmp_path):
    assert not traced(tmp_path, kind, **config).sees_padding


def test_engines_are_compared_beyond_a_window_of_attention_and_beside_padding(tmp_path):
    trace = traced(tmp_path, "Bert", max_position_embeddings=2000, local_attention=500)
    ((ids, mask),) = [example for example in trace.examples() if len(example[0][0]) > 100]
    assert ids.shape == mask.shape == (2, 1000)
    assert mask.sum(1).tolist() == [1000, 3]


def test_examples_are_no_longer_than_the_network_has_positions_for(tmp_path):
    trace = traced(tmp_path, "Bert")
    assert max(ids.shape[1] for ids, _ in trace.examples()) == 40


def test_the_sum_of_embeddings_is_a_stage_where_no_module_puts_it_out(tmp_path):
    sizes = {"ffn_dim": 24, "word_embed_proj_dim": 12, "pad_token_id": 0}
    trace = traced(tmp_path, "OPT", **sizes)
    assert trace.stages == ("embeddings", "decoder.layers.0", "decoder.layers.1", "last")
    assert (trace.taps["embeddings"].module, trace.taps["embeddings"].side) == (
        "decoder.layers.0",
        "input",
    )
    times = [trace.execution.time(trace.taps[stage]) for stage in trace.stages]
    assert times == sorted(times)
    assert times[0] < trace.execution.times["decoder.layers.0.self_attn.q_proj"][0]


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (
            "Funnel",
            {"block_sizes": [1, 1], "d_model": 12, "n_head": 2, "d_head": 6, "d_inner": 24},
            r"FunnelModel has hidden states of shape \(3, 6, 12\) .* shorten texts",
        ),
        (
            "Longformer",
            {"attention_window": 8, "pad_token_id": 0, "hidden_size": 12, "num_attention_heads": 2},
            "no module of LongformerModel puts out its last hidden state, .* multiple of their win",
        ),
    ],
)
def test_a_network_whose_states_are_no_tokens_is_refused(kind, config, message, tmp_path):
    shape = {"vocab_size": 74, "max_position_embeddings": 40, **config}
    module = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**shape))
    with pytest.raises(ValueError, match=message):
        trace_of(module.eval())


def test_a_network_without_a_mask_is_called_without_one(tmp_path):
    module = load_language(write_language(tmp_path)).module

    class Maskless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.config = module, module.config

        def forward(self, input_ids, output_hidden_states=False):
            return self.inner(input_ids=input_ids, output_hidden_states=output_hidden_states)

    trace = trace_of(Maskless())
    assert trace.sees_padding  # it attends to all tokens
    assert not trace.takes_mask
