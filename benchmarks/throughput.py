"""Compare images per second of the pooled penultimate layer with peers, on a CPU.

The networks are efficientnet_lite0 with its real weights and resnet50 with random ones (which run
at the same speed), 224 pixels, on two levels: the network alone, from preprocessed tensors, and the
whole way from PIL images of 256 x 256 in memory, each contestant with its own preprocessing.
Interleaved rounds, medians; ratios are medians of the rounds' own ratios.

Peers are embetter's TimmEncoder, img2vec_pytorch (which has resnet50 only), the loop as in
thingsvision (which does not install beside a current torch) and the plain eager loop at four
batch sizes; our figures are compared with the best of them. A loop in channels-last layout is
shown as well; it does half of what engine="torch" does.

Every output is compared with the eager loop's. bfloat16 is measured as well, with its
effect on the accuracy of logistic regression on digits.

Targets: >= 4 x (lite0) and >= 1.8 x (resnet50) with OpenVINO and >= 1.3 x with torch, against
the best peer; float32 outputs within 1e-4 relative.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import timm
import torch
from _common import interleaved, medians, parser, ratio, write_result
from _images import crops
from _peers import TIMM_NAMES, Extractor, eager_loop, embetter, img2vec, thingsvision_loop
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timm.data import create_transform, resolve_data_config
from torchvision.models import get_model_weights

from sktransfer import PretrainedCNNFeatures

BACKBONES: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": {},
    "resnet50": {"weights": "random", "random_state": 0},
}
OURS = {
    f"ours, {engine}, {precision}": {"engine": engine, "precision": precision}
    for engine in ("openvino", "torch")
    for precision in ("float32", "bfloat16")
}
OPENVINO, TORCH = "ours, openvino, float32", "ours, torch, float32"
REFERENCE = "eager loop, batch 8"
LOOP = "loop as in thingsvision, batch 32"
KNOWING = "eager loop, channels last, batch 8"
AS_IS = "embetter as it is (training mode)"
AS_IT_SHIPS = ("embetter", "img2vec, single", "img2vec, lists of 32", LOOP)
NOT_PEERS = (*OURS, KNOWING, AS_IS)


def usual_transform(name: str) -> Callable[[Any], torch.Tensor]:
    """The preprocessing that belongs to the published weights."""
    if name == "resnet50":
        return get_model_weights(name).DEFAULT.transforms()
    config = resolve_data_config({}, model=timm.create_model(TIMM_NAMES[name]))
    return create_transform(**config)


def contestants(name: str, module: torch.nn.Module, *, tensors: bool) -> dict[str, Extractor]:
    """Functions from images, or from images that are preprocessed already, to features."""
    transform = None if tensors else usual_transform(name)
    made: dict[str, Extractor] = {}
    for ours, how in OURS.items():
        features = PretrainedCNNFeatures(name, image_size=224, **BACKBONES[name], **how)
        features.fit([np.zeros((224, 224, 3), np.uint8)])
        made[ours] = partial(engine_alone, features) if tensors else features.transform
    for size in (1, 8, 32, 64):
        made[f"eager loop, batch {size}"] = eager_loop(module, name, transform, size)
    made[KNOWING] = eager_loop(module, name, transform, 8, torch.channels_last)
    made[LOOP] = thingsvision_loop(module, name, transform)
    made["embetter"] = embetter(module, name, tensors=tensors)
    made[AS_IS] = embetter(module, name, tensors=tensors, as_is=True)
    if name == "resnet50":
        made["img2vec, single"] = img2vec(module, tensors=tensors, batch_size=None)
        made["img2vec, lists of 32"] = img2vec(module, tensors=tensors, batch_size=32)
    return made


def engine_alone(features: PretrainedCNNFeatures, pixels: Sequence[np.ndarray]) -> np.ndarray:
    """The engine that `transform` uses, fed as `transform` does but with nothing to read."""
    engine = features._engine(features.fitted_, features.fitted_.reads)
    starts = range(0, len(pixels), features.batch_size)
    parts = [engine(np.stack(pixels[i : i + features.batch_size]))[0] for i in starts]
    return np.concatenate(parts)


def measure(name: str, images: list[Any], rounds: int, *, tensors: bool) -> dict[str, Any]:
    """Rates, agreement and ratios on one level, printed as a table."""
    module = PretrainedCNNFeatures(name, **BACKBONES[name]).fit(images).module_
    runs = contestants(name, module, tensors=tensors)
    inputs = dict.fromkeys(runs, images)
    if tensors:
        transform = usual_transform(name)
        prepared = [transform(image) for image in images]
        laid_out = [tensor.permute(1, 2, 0).contiguous().numpy() for tensor in prepared]
        inputs = {run: laid_out if run in OURS else prepared for run in runs}
    ready = {run: partial(work, inputs[run]) for run, work in runs.items()}
    right = ready[REFERENCE]()
    apart = {  # which is the warm-up, too
        run: float(np.abs(work() - right).max() / np.abs(right).max())
        for run, work in ready.items()
    }
    seconds, others = interleaved(ready, rounds, warm_up=False)
    rates = {contestant: len(images) / value for contestant, value in medians(seconds).items()}
    print(f"\n{name}, {'network only' if tensors else 'from PIL images'}")
    print(f"{'':<36} {'images/s':>9} {'difference':>11}")
    for contestant, rate in sorted(rates.items(), key=lambda item: -item[1]):
        print(f"{contestant:<36} {rate:>9.1f} {apart[contestant]:>11.1e}")
    peers = [contestant for contestant in rates if contestant not in NOT_PEERS]
    best = {
        "best peer": max(peers, key=rates.__getitem__),
        "best as it ships": max(set(peers) & set(AS_IT_SHIPS), key=rates.__getitem__),
    }
    ratios = {
        f"{ours} / {which}": {"peer": peer, **ratio(seconds[peer], seconds[ours])}
        for which, peer in best.items()
        for ours in (OPENVINO, TORCH)
    }
    for what, value in ratios.items():
        spread = f"({value['least']:.2f} to {value['most']:.2f})"
        print(f"{what}: {value['paired']:.2f} {spread}, which is {value['peer']}")
    far = [n for n, value in apart.items() if tensors and value > 1e-4 and n not in NOT_PEERS]
    far += [n for n in (OPENVINO, TORCH) if tensors and apart[n] > 1e-4]
    print(f"float32 outputs further than 1e-4 from the eager loop's: {far or 'none'}")
    print(f"others had {others['median']:.0%} of the machine, {others['most']:.0%} at most")
    return {"images_per_second": rates, "relative_difference": apart, "ratios": ratios,
            "seconds": seconds, "others": others}  # fmt: skip


def accuracy(n_images: int) -> dict[str, dict[str, float]]:
    """The effect of bfloat16 on the accuracy of a classifier of digits."""
    digits = load_digits()
    images, labels = digits.images[:n_images] / 16, digits.target[:n_images]
    found: dict[str, dict[str, float]] = {}
    print(f"\n{'digits, logistic regression':<44} {'accuracy':>9} {'difference':>11}")
    for layer in ("blocks.3", "penultimate"):
        right = None
        for ours, how in OURS.items():
            features = PretrainedCNNFeatures(layer=layer, image_size=32, **how)
            matrix = features.fit_transform(images)
            right = matrix if right is None else right
            head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
            score = float(cross_val_score(head, matrix, labels, cv=5).mean())
            apart = float(np.abs(matrix - right).max() / np.abs(right).max())
            found[f"{layer}, {ours}"] = {"accuracy": score, "relative_difference": apart}
            print(f"{layer + ', ' + ours:<44} {score:>9.4f} {apart:>11.1e}")
    return found


def main() -> None:
    options_of = parser(__doc__, rounds=5)
    options_of.add_argument("--images", type=int, default=64)
    options_of.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=BACKBONES)
    options = options_of.parse_args()
    if options.quick:
        options.rounds, options.images = 1, 4
    torch.set_num_threads(options.threads)
    result = run(options)
    if not options.quick:
        write_result("throughput", result)


def run(options: argparse.Namespace) -> dict[str, Any]:
    images = crops(options.images, 256)
    result: dict[str, Any] = {
        "threads": options.threads,
        "rounds": options.rounds,
        "images": options.images,
    }
    for name in options.backbones:
        result[name] = {
            "network only": measure(name, images, options.rounds, tensors=True),
            "from PIL images": measure(name, images, options.rounds, tensors=False),
        }
    result["accuracy"] = accuracy(200 if options.quick else 1797)
    return result


if __name__ == "__main__":
    main()
