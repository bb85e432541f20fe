"""A check of a folder of images and of the installation: ``python -m sktransfer check``."""

import argparse
import json
from typing import Any

from sktransfer.cli.check.findings import Finding, counted
from sktransfer.cli.options import MIN_IMAGES, add_value_range, at_least, value_range_of
from sktransfer.cli.printing import one_line, printable, some

_SHOWN = 5


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Read every image below a folder as `extract` would, and list what is broken or odd: "
        "files that cannot be read or have too many pixels, pictures that occur twice (also "
        "under two classes), blank ones, classes with few images, with none, or with a colour "
        "mode of their own; files without the suffix of an image are counted and named. "
        "Then, and without a folder alone: versions of packages against what "
        "sktransfer needs, devices, whether the engines agree, and whether the weights on "
        "this machine have the SHA-256 they should have."
    )
    command.add_argument("directory", nargs="?", help="folder of images, one subfolder per class")
    command.add_argument(
        "--min-images",
        type=at_least(1),
        default=MIN_IMAGES,
        metavar="N",
        help="fewer in a class are a finding (default: %(default)s, one per fold)",
    )
    command.add_argument(
        "--max-pixels",
        type=at_least(1),
        default=89_478_485,
        metavar="N",
        help="larger images are a finding, as everywhere in sktransfer (default: %(default)s)",
    )
    add_value_range(command)
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if there are findings."""
    findings: list[Finding] = []
    report: dict[str, Any] = {}
    if options.directory is not None:
        from sktransfer.datasets.folder import scan_folder

        scan = scan_folder(options.directory)
        # Only now that there is something to read, for it brings torch.
        from sktransfer.cli.check.folder import folder_summary, image_findings, inspect_folder

        facts = inspect_folder(
            scan.paths,
            scan.labels,
            max_pixels=options.max_pixels,
            value_range=value_range_of(options),
            verbose=not options.quiet,
        )
        findings += image_findings(facts, min_images=options.min_images)
        if scan.empty:
            text = f"no image in {counted(scan.empty, 'subfolder')}"
            findings.append(Finding("empty-class", text, scan.empty))
        report["folder"] = folder_summary(options.directory, facts, scan.passed_over)
    from sktransfer.cli.check.installation import inspect_installation

    report["installation"], more = inspect_installation()
    findings += more
    if options.json:
        listed = [finding._asdict() for finding in findings]
        print(json.dumps({**report, "findings": listed}, indent=2, allow_nan=False))
    else:
        _print(report, findings)
    return 1 if findings else 0


def _print(report: dict[str, Any], findings: list[Finding]) -> None:
    if "folder" in report:
        folder = report["folder"]
        width, height = folder["width"], folder["height"]
        print(
            f"{printable(folder['directory'])}: {folder['files']} files, "
            f"{folder['unreadable']} unreadable, {len(folder['classes'])} classes"
        )
        others = folder["passed_over"]
        if others["files"]:
            kinds = ", ".join(f"{n} {printable(kind)}" for kind, n in others["suffixes"].items())
            print(
                f"  passed over: {counted(others['files'], 'file')} without the suffix of an image "
                f"({kinds}): {some(others['files'])}"
            )
        if width:
            sizes = (f"{width[q]} x {height[q]} {q}" for q in ("min", "median", "max"))
            print(f"  width x height: {', '.join(sizes)}")
            print(f"  modes: {', '.join(f'{mode} {n}' for mode, n in folder['modes'].items())}")
    here = report["installation"]
    packages = here["packages"]
    named = ("torch", "torchvision", "timm", "scikit-learn", "numpy", "pillow", "openvino")
    print(f"sktransfer {packages['sktransfer']}, Python {here['python']}, {here['platform']}")
    print("  " + ", ".join(f"{name} {packages.get(name) or '-'}" for name in named))
    missing = [name for name, version in packages.items() if version is None]
    print(f"  not installed: {', '.join(missing) or 'nothing'}")
    print(
        f"  device {here['device']}, {here['threads']} threads, engine {here['engine']}; "
        + ", ".join(f"{engine} works ({d:.0e} off)" for engine, d in here["engines"].items())
    )
    words = {True: "intact", False: "DAMAGED", None: "no checksum published"}
    for weights in here["weights"]:
        print(f"  weights of {weights['backbone']}: {words[weights['intact']]}")
    print(f"{counted(findings, 'finding')}{'' if findings else ': fit for use'}")
    for kind, message, items in findings:
        print(f"{kind}: {one_line(message)}")
        for item in items[:_SHOWN]:
            print(f"    {printable(item)}")
        if len(items) > _SHOWN:
            print(f"    and {len(items) - _SHOWN} more; --json lists them all")
