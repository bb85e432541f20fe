"""Which weights each value of `tune` trains, in networks of several kinds."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer
from transformers import BertConfig, BertModel, T5Config, T5EncoderModel

from sktransfer.finetuning.trainable import restricted
from sktransfer.finetuning.unfreezing import Stages, resolve_unfreeze
from sktransfer.sequences.recurrent import RecurrentNetwork, Shape


def of(module, tune):
    """Names that are left of all weights of a network in one stage."""
    stages = Stages(("all",), {name: 0 for name, _ in module.named_parameters()})
    found = restricted(stages, module, tune)
    assert found.names == stages.names
    return set(found.of)


def vit():
    return VisionTransformer(
        img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=2, num_classes=0
    )


def swin():
    return SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=2)


def bert():
    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=8,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False)


def t5():
    return T5EncoderModel(
        T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    )


def lstm():
    return RecurrentNetwork(Shape("lstm", 4, 3, vocabulary_size=9, attention=True))


def test_all_leaves_the_stages_as_they_are():
    module = vit()
    assert of(module, "all") == {name for name, _ in module.named_parameters()}


def test_biases_are_vectors_with_that_name():
    assert of(vit(), "bias") == {n for n, _ in vit().named_parameters() if n.endswith(".bias")}
    assert of(lstm(), "bias") == {"rnn.bias_ih_l0", "rnn.bias_hh_l0"}
    # Tables of relative biases are no vectors, and T5 has nothing else.
    assert not any("relative" in name for name in of(swin(), "bias"))
    assert of(t5(), "bias") == set()
    attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
    assert of(attention, "bias") == {"in_proj_bias", "out_proj.bias"}


@pytest.mark.parametrize(
    ("make", "part"), [(vit, "norm"), (swin, ""), (bert, "LayerNorm"), (t5, "layer_norm")]
)
def test_normalisation_layers_are_known_by_class(make, part):
    module = make()
    found = of(module, "norm")
    assert found
    assert all(part in name for name in found)
    assert all(module.get_parameter(name).ndim == 1 for name in found)
    owners = {type(module.get_submodule(name.rpartition(".")[0])).__name__ for name in found}
    assert owners <= {"LayerNorm", "T5LayerNorm"}


def test_batch_group_and_rms_norm_are_normalisation_layers():
    module = nn.Sequential(
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.RMSNorm(4),
        nn.LayerNorm((4, 2)),
        nn.Conv2d(4, 4, 1),
    )
    assert {name[0] for name in of(module, "norm")} == set("0123")


def test_matrices_of_linear_attention_recurrent_and_conv_layers_have_a_low_rank_form():
    assert of(vit(), "lora") == {
        "patch_embed.proj.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.0.attn.proj.weight",
        "blocks.0.mlp.fc1.weight",
        "blocks.0.mlp.fc2.weight",
    }
    assert of(lstm(), "lora") == {"rnn.weight_ih_l0", "rnn.weight_hh_l0", "attention.weight"}
    assert not any("embeddings" in name for name in of(bert(), "lora"))
    assert len(of(bert(), "lora")) == 6
    assert of(nn.MultiheadAttention(4, 2, add_bias_kv=True), "lora") == {
        "in_proj_weight",
        "out_proj.weight",
    }
    assert of(nn.MultiheadAttention(4, 2, kdim=3), "lora") == {
        "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight",
    }  # fmt: skip


@pytest.mark.parametrize(
    "layer", [nn.Embedding(3, 2), nn.ConvTranspose2d(2, 3, 2), nn.Bilinear(2, 2, 2)]
)
def test_other_layers_have_no_low_rank_form(layer):
    assert of(layer, "lora") == set()


@pytest.mark.parametrize(
    ("tune", "unfreeze", "message"),
    [
        ("bias", 1, r"unfreeze=1 selects no weight to train .* that tune='bias' trains"),
        ("norm", "all", r"unfreeze='all' selects .* tune='norm' trains.*tune to 'all'"),
        ("lora", "0.*", r"unfreeze='0.\*' matches no weight .* tune='lora' trains"),
    ],
)
def test_nothing_to_train_is_an_error_that_names_both_parameters(tune, unfreeze, message):
    module = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2, bias=False))
    stages = Stages(("0", "1"), {"0.weight": 0, "1.weight": 1})
    with pytest.raises(ValueError, match=message):
        resolve_unfreeze(unfreeze, restricted(stages, module, tune), tune)


def test_stages_are_counted_as_without_tune():
    module = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    stages = Stages(("0", "1", "2"), {n: int(n[0]) for n, _ in module.named_parameters()})
    found = restricted(stages, module, "lora")
    assert resolve_unfreeze(1, found, "lora") == ("2.weight",)
    assert resolve_unfreeze(2, found, "lora") == ("1.weight", "2.weight")
    assert resolve_unfreeze(3, found, "lora") == ("1.weight", "2.weight")
    assert torch.equal(module[1].weight, module.get_parameter("1.weight"))
