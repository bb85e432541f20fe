"""Transformers for text that are tuned on labels."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sktransfer import FineTune, FineTunedClassifier, FineTunedRegressor, PretrainedTextFeatures
from sktransfer.images.body import ImageBody
from sktransfer.sequences.body import SequenceBody
from sktransfer.texts.body import TextBody
from tests.helpers.languages import LABELS, TEXTS, write_language

X, Y = TEXTS * 4, LABELS * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_language(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def make(folder):
    return lambda **how: PretrainedTextFeatures(
        **{"backbone": folder, "engine": "torch", "random_state": 0, **how}
    )


HOW = {
    "mean": {},
    "layers and poolings": {"layer": (1, "last"), "pooling": "mean+cls+max"},
    "combined and scaled": {"layer": (-2, -1), "combine": "mean", "normalize": True},
    "in pieces": {"max_length": 7, "long_texts": "split", "pooling": "mean+cls+max"},
    "pooler": {"layer": "pooler"},
}


@pytest.mark.parametrize("name", HOW)
@pytest.mark.parametrize("unfreeze", ["all", 1])
def test_what_is_trained_computes_the_features_that_are_read(name, unfreeze, make):
    fitted = make(**HOW[name]).fit(TEXTS)
    tunable = fitted.__tuning_source__().tunable(TEXTS)
    trained = ("embeddings.word_embeddings.weight",)
    if unfreeze == 1:
        last = len(tunable.body.stages.names) - 1
        trained = tuple(n for n, stage in tunable.body.stages.of.items() if stage == last)
    inputs, readable = tunable.inputs(trained, FineTune(unfreeze))
    with torch.inference_mode():
        found = tunable.body.eval()(inputs.batch(np.arange(8), training=False)).numpy()
        some = tunable.body(inputs.batch(np.array([6, 2]), training=True)).numpy()
    expected = fitted.transform(TEXTS)
    assert_allclose(found, expected, atol=1e-5)
    assert_allclose(some, expected[[6, 2]], atol=1e-5)
    assert readable.all()
    # Training goes on from the block before the first that is trained, or that is read.
    before = "encoder.layer.0" if name == "layers and poolings" else "encoder.layer.1"
    begin = tunable.body.begin
    assert begin == "input" if unfreeze == "all" else begin.layer == before


@pytest.mark.parametrize("how", [{}, {"layer": 1}, {"layer": "pooler"}, {"layer": (0, 2)}], ids=str)
def test_stages_hold_exactly_the_weights_that_features_depend_on(how, make):
    fitted = make(**how).fit(TEXTS)
    tunable = fitted.__tuning_source__().tunable(TEXTS)
    inputs, _ = tunable.inputs(("embeddings.word_embeddings.weight",), FineTune("all"))
    tunable.body.module.requires_grad_(True)
    tunable.body(inputs.batch(np.arange(8), training=False)).square().sum().backward()
    used = {n for n, p in tunable.body.module.named_parameters() if p.grad is not None}
    found = tunable.body.stages
    assert set(found.of) == used
    assert list(found.of.values()) == sorted(found.of.values())


def test_stages_are_embeddings_and_blocks(make):
    stages = make().fit(TEXTS).__tuning_source__().tunable(TEXTS).body.stages
    assert stages.names == ("embeddings", "encoder.layer.0", "encoder.layer.1", "last")
    last = [name for name, stage in stages.of.items() if stage == 3]
    assert {name[:16] for name in last} == {"encoder.layer.2."}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean", "in pieces"])
def test_a_cached_trunk_changes_nothing_but_time(name, make):
    fits = [
        make(**HOW[name], strategy=FineTune(1, epochs=2, cache_trunk=cached)).fit(X, Y)
        for cached in (True, False)
    ]
    assert_allclose(fits[0].transform(TEXTS), fits[1].transform(TEXTS), atol=1e-5)
    assert len(fits[0].history_) == 2


def test_the_trunk_runs_once_and_the_epochs_only_the_rest(make, monkeypatch):
    features = make(strategy=FineTune(1, epochs=3, early_stopping=False))
    ran = []
    from transformers.models.bert import modeling_bert

    def watched(name, inner):
        def forward(self, *args, **kwargs):
            ran.append(name)
            return inner(self, *args, **kwargs)

        return forward

    for name in ("BertEmbeddings", "BertLayer"):
        kind = getattr(modeling_bert, name)
        monkeypatch.setattr(kind, "forward", watched(name, kind.forward))
    features.fit(X, Y)
    # Tracing, trying out where to resume, the trunk, the first head, and three epochs.
    assert ran.count("BertEmbeddings") <= 8
    assert ran.count("BertLayer") < 40


def test_only_what_is_unfrozen_moves(make):
    before = make().fit(TEXTS).module_.state_dict()
    tuned = make(strategy=FineTune(1, epochs=1)).fit(X, Y)
    moved = [n for n, t in tuned.module_.state_dict().items() if not torch.equal(t, before[n])]
    assert moved
    assert all(name.startswith("encoder.layer.2.") for name in moved)
    assert set(moved) <= set(tuned.trained_parameters_)
    assert tuned.engine_ == "torch"
    named = make(strategy=FineTune("encoder.layer.0.attention", epochs=1)).fit(X, Y)
    assert all(n.startswith("encoder.layer.0.attention.") for n in named.trained_parameters_)


@pytest.mark.slow
def test_tuning_learns_an_order_of_words_that_frozen_features_hardly_show(make):
    draw = np.random.RandomState(0)
    words = ["the", "match", "sauce", "dough", "bread", "cook", "goal"]
    texts = [" ".join(draw.permutation(words)) for _ in range(400)]
    y = [text.index("match") < text.index("sauce") for text in texts]
    scores = [
        FineTunedClassifier(make(), strategy=strategy, random_state=0)
        .fit(texts[:300], y[:300])
        .score(texts[300:], y[300:])
        for strategy in ("frozen", FineTune("all", epochs=20, learning_rate=3e-3))
    ]
    assert scores[1] > scores[0] + 0.15


@pytest.mark.slow
def test_the_seed_decides(make):
    strategy = FineTune("all", epochs=2)
    first, again, other = (
        make(strategy=strategy, random_state=seed).fit(X, Y).transform(TEXTS) for seed in (0, 0, 1)
    )
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


@pytest.mark.slow
def test_rows_without_text_are_left_out_of_training(make):
    strategy = FineTune("head", epochs=2)
    with pytest.warns(UserWarning, match="2 of 34 rows of X are no texts"):
        some = make(on_error="nan", strategy=strategy).fit([None, *X, np.nan], ["food", *Y, "food"])
    assert np.isfinite(some.transform(TEXTS)).all()
    with pytest.warns(UserWarning, match="2 of 34 rows of X are no texts"):
        tuned = make(on_error="nan", strategy=FineTune(1, epochs=1)).fit(
            [None, *X, np.nan], ["food", *Y, "food"]
        )
    assert np.isfinite(tuned.transform(TEXTS)).all()


@pytest.mark.slow
def test_a_classifier_goes_on_and_is_saved(make, tmp_path):
    classifier = FineTunedClassifier(make(), strategy=FineTune(1, epochs=2), random_state=0)
    classifier.fit(X, Y)
    before = classifier.predict_proba(TEXTS)
    classifier.save(tmp_path / "saved")
    again = FineTunedClassifier.load(tmp_path / "saved")
    assert_allclose(again.predict_proba(TEXTS), before, atol=1e-6)
    for each in (classifier, again):
        each.partial_fit(X, Y)
        assert np.abs(each.predict_proba(TEXTS) - before).max() > 1e-6
        assert len(each.history_) == 3


def test_a_regressor_is_tuned_from_where_another_ended(make):
    y = [float(len(text)) for text in X]
    first = FineTunedRegressor(make(), strategy=FineTune("all", epochs=2), random_state=0)
    first.fit(X, y)
    second = FineTunedRegressor(
        make(), strategy=FineTune("head", epochs=1), start_from=first, random_state=0
    ).fit(X, y)
    assert_allclose(second.features_.transform(TEXTS), first.features_.transform(TEXTS), atol=1e-5)


@pytest.mark.parametrize("penalty", ["l2-sp", "bss", "rkd"])
def test_penalties_keep_the_network_near_its_source(penalty, make):
    strategy = FineTune("all", epochs=1, penalty=penalty)
    assert np.isfinite(make(strategy=strategy).fit(X, Y).transform(TEXTS)).all()


def test_two_domains_are_aligned(make):
    strategy = FineTune(1, epochs=1, alignment="coral")
    domain = np.where(np.arange(len(X)) % 4 == 0, -1, 1)
    tuned = make(strategy=strategy).fit(X, Y, sample_domain=domain)
    assert np.isfinite(tuned.transform(TEXTS)).all()


def test_mixup_blends_texts_of_unequal_length(make):
    plain, mixed, again = (
        make(strategy=FineTune(1, epochs=1, mixup=mixup)).fit(X, Y).transform(TEXTS)
        for mixup in (0.0, 0.4, 0.4)
    )
    assert_array_equal(mixed, again)
    assert not np.array_equal(plain, mixed)


def test_texts_have_a_learning_rate_of_their_own(make):
    fitted, stated, wild = (
        FineTunedClassifier(
            make(), strategy=FineTune(1, epochs=1, learning_rate=rate), random_state=0
        ).fit(X, Y)
        for rate in (None, TextBody.learning_rate, 0.003)
    )
    assert TextBody.learning_rate < ImageBody.learning_rate == SequenceBody.learning_rate == 1e-3
    assert fitted.net_.lr == TextBody.learning_rate
    assert_array_equal(fitted.predict_proba(TEXTS), stated.predict_proba(TEXTS))
    assert not np.array_equal(wild.predict_proba(TEXTS), stated.predict_proba(TEXTS))
    assert fitted.strategy.learning_rate is None
    head = FineTunedClassifier(make(), strategy=FineTune("head", epochs=1), random_state=0)
    assert head.fit(X, Y).net_.lr == ImageBody.learning_rate
    again = pickle.loads(pickle.dumps(fitted))
    for each, twin in ((fitted, stated), (again, pickle.loads(pickle.dumps(stated)))):
        assert each.net_.lr == TextBody.learning_rate
        expected = twin.partial_fit(X, Y).predict_proba(TEXTS)
        assert_array_equal(each.partial_fit(X, Y).predict_proba(TEXTS), expected)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"augment": "light"}, "augment changes images and series, and X holds texts"),
        ({"penalty": "delta"}, "compares feature maps, which only images have"),
        ({"unfreeze": 5}, "unfreeze must be from 1 to 4, the number of stages"),
    ],
)
def test_what_texts_cannot_do_is_said(strategy, message, make):
    with pytest.raises(ValueError, match=message):
        make(strategy=FineTune(**strategy)).fit(X, Y)


@pytest.mark.parametrize("unfreeze", ["all", 1])
@pytest.mark.parametrize("name", ["mean", "in pieces"])
def test_a_network_that_sees_padding_is_trained_without_any(name, unfreeze, tmp_path):
    where = write_language(tmp_path, "FNet")
    features = PretrainedTextFeatures(where, engine="torch", random_state=0, **HOW[name])
    fitted = features.fit(TEXTS)
    tunable = fitted.__tuning_source__().tunable(TEXTS)
    stages = tunable.body.stages
    first = len(stages.names) - 1 if unfreeze == 1 else 0
    trained = tuple(n for n, stage in stages.of.items() if stage >= first)
    inputs, _ = tunable.inputs(trained, FineTune(unfreeze))
    with torch.inference_mode():
        found = tunable.body.eval()(inputs.batch(np.arange(8), training=False)).numpy()
    assert_allclose(found, fitted.transform(TEXTS), atol=1e-5)
    assert (tunable.body.begin == "input") == (unfreeze == "all")


def test_the_first_stage_of_a_network_that_sums_embeddings_is_their_own(tmp_path):
    sizes = {"ffn_dim": 24, "word_embed_proj_dim": 12, "pad_token_id": 0}
    where = write_language(tmp_path, "OPT", **sizes)
    fitted = PretrainedTextFeatures(where, engine="torch").fit(TEXTS)
    stages = fitted.__tuning_source__().tunable(TEXTS).body.stages
    assert stages.names == ("embeddings", "decoder.layers.0", "decoder.layers.1", "last")
    embedded = {name for name, stage in stages.of.items() if stage == 0}
    assert embedded == {"decoder.embed_tokens.weight", "decoder.embed_positions.weight"}


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
def test_relative_embeddings_are_trained_with_all_and_by_name(tmp_path):
    relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8}
    where = write_language(tmp_path, "DebertaV2", **relative, share_att_key=True)
    before = PretrainedTextFeatures(where, engine="torch").fit(X).module_.state_dict()
    for unfreeze in ("all", "encoder.rel_embeddings*"):
        strategy = FineTune(unfreeze, epochs=1, learning_rate=1e-2)
        tuned = PretrainedTextFeatures(
            where, engine="torch", strategy=strategy, random_state=0
        ).fit(X, Y)
        moved = [n for n, t in tuned.module_.state_dict().items() if not torch.equal(t, before[n])]
        assert "encoder.rel_embeddings.weight" in moved
        assert unfreeze == "all" or moved == ["encoder.rel_embeddings.weight"]


def test_a_network_that_shares_its_blocks_runs_as_a_whole(tmp_path):
    where = write_language(tmp_path, "Albert", embedding_size=8, pad_token_id=0)
    features = PretrainedTextFeatures(where, engine="torch", random_state=0)
    fitted = features.fit(TEXTS)
    tunable = fitted.__tuning_source__().tunable(TEXTS)
    trained = tuple(n for n, s in tunable.body.stages.of.items() if s == 1)
    inputs, _ = tunable.inputs(trained, FineTune(1))
    with torch.inference_mode():
        found = tunable.body(inputs.batch(np.arange(8), training=False)).numpy()
    assert_allclose(found, fitted.transform(TEXTS), atol=1e-5)
    tuned = features.set_params(strategy=FineTune(1, epochs=1)).fit(X, Y)
    assert any("albert_layer" in name for name in tuned.trained_parameters_)
