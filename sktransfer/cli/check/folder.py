"""Findings in a folder of images: files that are broken or odd."""

import hashlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import joblib
import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from sktransfer.cli.check.findings import Finding, counted
from sktransfer.exceptions import ImageReadError
from sktransfer.images.decoding import formats
from sktransfer.images.pixels import Range, ReadingOptions
from sktransfer.images.reading import read_image
from sktransfer.images.runner import read_item

# A picture whose pixels deviate less from their mean, on a scale of 0 to 1, shows nothing.
_BLANK = 0.01

# How many classes a message names.
_NAMED = 5


class ImageFacts(NamedTuple):
    """Properties of an image file; those after the error are blank if it cannot be read."""

    path: str
    label: str
    error: str
    size: tuple[int, int] = (0, 0)  # width and height
    mode: str = ""  # Pillow's, of the file
    pixels: str = ""  # hash of the pixels, as a network would get them
    deviation: float = 0.0  # standard deviation of the pixels, which lie between 0 and 1


def inspect_folder(
    paths: list[str],
    labels: list[str],
    *,
    max_pixels: int,
    value_range: Range = None,
    verbose: bool,
) -> list[ImageFacts]:
    """Read every image of a folder, in threads, and return its properties."""

    def facts_of(index: int) -> ImageFacts:
        return _facts(paths, index, labels[index], ReadingOptions(max_pixels, value_range))

    pool = ThreadPoolExecutor(joblib.cpu_count())
    try:
        with warnings.catch_warnings():
            # Pillow's threshold for suspicious sizes is that of max_pixels, which is a finding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            facts = pool.map(facts_of, range(len(paths)))
            return list(
                tqdm(facts, total=len(paths), desc="reading", unit="img", disable=not verbose)
            )
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt need not wait for all of them


def _facts(paths: list[str], index: int, label: str, options: ReadingOptions) -> ImageFacts:
    size, mode = (0, 0), ""

    def read(item: Any) -> np.ndarray:
        nonlocal size, mode
        image = read_image(item, options)
        try:
            with Image.open(item, formats=formats()) as header:  # as the file has them
                size, mode = header.size, header.mode
        except UnidentifiedImageError:  # a TIFF file that Pillow has no mode for
            height, width, n_bands = np.asarray(image).shape
            size, mode = (width, height), f"{n_bands} bands"
        return np.asarray(image)

    pixels = read_item(paths, index, read)
    if isinstance(pixels, ImageReadError):
        return ImageFacts(paths[index], label, " ".join(str(pixels).split()))
    content = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    content.update(pixels.tobytes())
    scale = 255 if pixels.dtype == np.uint8 else 1
    deviation = float(pixels.std(dtype=np.float64)) / scale
    return ImageFacts(paths[index], label, "", size, mode, content.hexdigest(), deviation)


def image_findings(facts: list[ImageFacts], *, min_images: int) -> list[Finding]:
    """Files and classes that are broken or odd."""
    findings = [
        Finding("unreadable", f"{counted(paths, 'file')} cannot be read: {error}", paths)
        for error, paths in _grouped((f.error, f.path) for f in facts if f.error).items()
    ]
    sound = [f for f in facts if not f.error]
    blank = [f.path for f in sound if f.deviation < _BLANK]
    if blank:
        findings.append(Finding("blank", f"{counted(blank, 'image')} of nearly one colour", blank))
    classes: dict[str, set[str]] = defaultdict(set)
    for f in sound:
        classes[f.pixels].add(f.label)
    for pixels, paths in _grouped((f.pixels, f.path) for f in sound).items():
        labels = sorted(classes[pixels])
        if len(labels) > 1:
            text = f"one picture in {len(labels)} classes ({', '.join(map(repr, labels))})"
            findings.append(Finding("contradiction", text, paths))
        elif len(paths) > 1:
            text = f"one picture {len(paths)} times; training and test rows may share it"
            findings.append(Finding("duplicate", text, paths))
    return findings + _class_findings(sound, {f.label for f in facts}, min_images)


def _class_findings(sound: list[ImageFacts], labels: set[str], min_images: int) -> list[Finding]:
    by_class: dict[str, list[str]] = {
        label: [] for label in sorted(labels)
    }  # a class may have no readable image at all
    for f in sound:
        by_class[f.label].append(f.path)
    findings = []
    if "" in by_class and len(by_class) > 1:
        unlabelled = by_class.pop("")
        text = f"{counted(unlabelled, 'file')} beside the subfolders; they have no class"
        findings.append(Finding("loose-files", text, unlabelled))
    if len(by_class) < 2:
        return findings
    few = [label for label, paths in by_class.items() if len(paths) < min_images]
    if few:
        text = f"fewer than {min_images} readable images in {counted(few, 'class', 'classes')}"
        findings.append(Finding("few-images", text, few))
    modes = {
        label: {f.mode for f in sound if f.label == label} for label in by_class if by_class[label]
    }
    apart = [a for a in modes if any(modes[a].isdisjoint(modes[b]) for b in modes)]
    if apart:
        text = (
            "no colour mode in common with some other class ("
            + ", ".join(f"{label!r}: {'/'.join(sorted(modes[label]))}" for label in apart[:_NAMED])
            + "); a classifier may learn the file format instead of what it shows"
        )
        findings.append(Finding("mode-tells-class", text, apart))
    return findings


def folder_summary(
    directory: str, facts: list[ImageFacts], passed_over: list[str]
) -> dict[str, Any]:
    """Counts and sizes, ready for JSON."""
    sound = [f for f in facts if not f.error]
    widths, heights = (
        [int(q) for q in np.percentile([f.size[axis] for f in sound], [0, 50, 100])]
        if sound
        else []
        for axis in (0, 1)
    )
    return {
        "directory": directory,
        "files": len(facts),
        "passed_over": {
            "files": passed_over,
            "suffixes": dict(Counter(os.path.splitext(path)[1].lower() for path in passed_over)),
        },
        "unreadable": len(facts) - len(sound),
        "classes": dict(Counter(f.label for f in sound)),
        "modes": dict(Counter(f.mode for f in sound)),
        "width": dict(zip(("min", "median", "max"), widths, strict=False)),
        "height": dict(zip(("min", "median", "max"), heights, strict=False)),
    }


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return dict(groups)
