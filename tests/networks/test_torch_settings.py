"""Features and trainings do not depend on torch's settings where they are called."""

import pickle
import threading

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
)
from sktransfer.networks.torch_settings import usual_settings
from tests.helpers.languages import LABELS, TEXTS, write_language
from tests.helpers.networks import TwoStages
from tests.helpers.torch_states import AMBIENT


def settings() -> dict[str, object]:
    backends = torch.backends
    found = {
        "autocast": torch.is_autocast_enabled("cpu"),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "all": backends.fp32_precision,
        "cuda products": backends.cuda.matmul.fp32_precision,
    }
    for library in (backends.cudnn, backends.mkldnn):
        found |= {
            (library, name): getattr(library, name).fp32_precision for name in ("conv", "rnn")
        }
    return found | {"products": backends.mkldnn.matmul.fp32_precision}


SERIES = np.random.default_rng(0).normal(size=(8, 20)).cumsum(1)
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 16, 16), dtype=np.uint8)
KINDS = np.array(["a", "b"] * 4)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Transformers and data of each modality."""
    folder = write_language(tmp_path_factory.mktemp("language"))
    return {
        "images": (
            lambda **k: PretrainedCNNFeatures(TwoStages, engine="torch", **k),
            IMAGES,
            KINDS,
        ),
        "series": (lambda **k: RNNSequenceFeatures(views="z", **k), SERIES, KINDS),
        "texts": (lambda **k: PretrainedTextFeatures(folder, engine="torch", **k), TEXTS, LABELS),
    }


def frozen(build, X, y, tmp_path):
    """Features of a transformer, of its copy, and those that the store keeps."""
    made = build(random_state=0).fit(X)
    kept = build(random_state=0, cache=tmp_path).fit_transform(X)
    return [made.transform(X), pickle.loads(pickle.dumps(made)).transform(X), kept]


def tuned(build, X, y, tmp_path):
    """Scores after training, and after going on with it."""
    strategy = FineTune("all", epochs=1)
    classifier = FineTunedClassifier(build(), strategy=strategy, random_state=0).fit(X, y)
    first = classifier.decision_function(X)
    again = pickle.loads(pickle.dumps(classifier))
    return [first, again.partial_fit(X, y).decision_function(X)]


@pytest.fixture(scope="module")
def expected():
    return {}


@pytest.mark.parametrize("ambient", AMBIENT)
@pytest.mark.parametrize("use", [frozen, tuned], ids=lambda use: use.__name__)
@pytest.mark.parametrize("modality", ["images", "series", "texts"])
def test_numbers_and_settings_are_the_same_under_any_state_of_torch(
    modality, use, ambient, make, expected, tmp_path
):
    if (modality, use) not in expected:
        expected[modality, use] = use(*make[modality], tmp_path / "plain")
    with AMBIENT[ambient]():
        before = settings()
        found = use(*make[modality], tmp_path / "ambient")
        assert settings() == before
    for right, one in zip(expected[modality, use], found, strict=True):
        assert_allclose(one, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("objective", ["forecast", "contrastive"])
@pytest.mark.parametrize("ambient", AMBIENT)
def test_pretraining_is_the_same_under_any_state_of_torch(objective, ambient):
    def losses():
        fitted = RNNSequenceFeatures(
            weights="random", hidden_size=4, views="z", pretraining=objective, random_state=0
        ).fit(SERIES)
        return fitted.pretraining_loss_

    right = losses()
    with AMBIENT[ambient]():
        assert_allclose(losses(), right, rtol=1e-5)


def test_within_the_block_torch_is_as_it_is_at_first():
    with torch.inference_mode(), torch.autocast("cpu"), usual_settings():
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")


def test_settings_are_restored_after_an_error_and_within_each_other():
    def fail():
        with usual_settings(), torch.no_grad(), usual_settings():
            raise RuntimeError("enough")

    before = settings()
    with pytest.raises(RuntimeError, match="enough"):
        fail()
    assert settings() == before
    with torch.no_grad(), torch.autocast("cpu"):
        with pytest.raises(RuntimeError, match="enough"):
            fail()
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")


def test_threads_that_overlap_restore_what_the_first_one_found():
    started, finish = threading.Event(), threading.Event()

    def long():
        with usual_settings():
            started.set()
            finish.wait()
            seen.append(torch.get_default_dtype())

    seen = []
    with AMBIENT["float64"]():
        thread = threading.Thread(target=long)
        with usual_settings():
            thread.start()
            started.wait()
        seen.append(torch.get_default_dtype())  # the other one still computes
        finish.set()
        thread.join()
        assert seen == [torch.float32, torch.float32]
        assert torch.get_default_dtype() == torch.float64


def test_an_error_while_pooling_leaves_no_mode_behind():
    made = RNNSequenceFeatures(views="z", pooling="mean").fit(SERIES)
    broken = made.fitted_.replace(thresholds=[made.fitted_.thresholds[0][:0]], poolings=("ppv",))
    made.fitted_ = broken
    try:
        made.transform(SERIES)
    except Exception as error:
        kept = error  # with the frames in which it was raised
        assert not torch.is_inference_mode_enabled()
        del kept
    else:
        raise AssertionError


@pytest.mark.parametrize("given", [torch.inference_mode, torch.no_grad])
def test_a_network_made_without_gradients_can_be_trained(given, make):
    _, X, y = make["images"]
    with given():
        network = TwoStages()
    features = PretrainedCNNFeatures(network, engine="torch")
    with given():
        classifier = FineTunedClassifier(features, strategy=FineTune("all", epochs=1)).fit(X, y)
        again = pickle.loads(pickle.dumps(classifier))
    assert len(again.partial_fit(X, y).history_) == 2
