"""The command line: ``python -m sktransfer demo | extract | cache``."""

import argparse
import sys
from collections.abc import Sequence

from sktransfer import __version__

_EXIT_CODES = (
    "exit status: 0 all went well; 1 some files failed, the rest is written; 2 nothing done"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str or None
        Without the program's name; None takes ``sys.argv``.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "demo":
            from sktransfer import demo

            return demo.main(as_json=options.json, plot=options.plot, n_seeds=options.seeds)
        if options.command == "cache":
            from sktransfer import cache

            return cache.main(options)
        from sktransfer import extract

        return extract.main(options)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        print(f"sktransfer: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sktransfer: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sktransfer", description="Transfer learning as scikit-learn estimators."
    )
    parser.add_argument("--version", action="version", version=f"sktransfer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser(
        "demo",
        help="search layers, components and classifiers on scikit-learn's digits",
        description="Few-label digits from a frozen ImageNet network; offline, a minute or two.",
    )
    demo.add_argument("--json", action="store_true", help="print the report as JSON")
    demo.add_argument(
        "--plot",
        default="sktransfer-demo.png",
        metavar="FILE",
        help="where the plot goes (default: %(default)s)",
    )
    demo.add_argument(
        "--seeds", type=positive_integer, default=5, metavar="N", help="random splits (default: 5)"
    )

    extract = commands.add_parser(
        "extract",
        help="write the features of a folder of images to a file",
        description=(
            "Features of every image below a folder. With one subfolder per class, and five images "
            "or more in each, every layer is also scored by cross-validation (scaler, PCA, LDA). "
            "Files that cannot be read are listed and become rows of NaN."
        ),
        epilog=_EXIT_CODES,
    )
    extract.add_argument("directory", help="folder of images, one subfolder per class")
    extract.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="features.parquet, .csv, or .npy (with an .index.csv of paths and labels beside it)",
    )
    extract.add_argument("--backbone", default="efficientnet_lite0", metavar="NAME")
    extract.add_argument(
        "--weights", default="default", metavar="FILE", help="'default', 'random' or a path"
    )
    extract.add_argument(
        "--layer",
        action="append",
        metavar="NAME",
        help="layer to read; repeat for several (default: penultimate)",
    )
    extract.add_argument("--pooling", default="avg", metavar="KIND")
    extract.add_argument("--image-size", type=positive_integer, metavar="PIXELS")
    extract.add_argument("--batch-size", type=positive_integer, default=64, metavar="N")
    extract.add_argument("--device", default="auto")
    extract.add_argument("--engine", default="auto", help="auto, torch or openvino")
    extract.add_argument("--precision", default="float32")
    extract.add_argument(
        "--cache", metavar="FOLDER", help="feature store: what is in it is not computed again"
    )
    extract.add_argument(
        "--fast-decode", action="store_true", help="decode large JPEG files at reduced size"
    )
    extract.add_argument("--json", action="store_true", help="print the summary as JSON")
    extract.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_cache(commands.add_parser("cache", help="look into, shrink or check a feature store"))
    return parser


def _add_cache(cache: argparse.ArgumentParser) -> None:
    from sktransfer.cache import age, size

    actions = cache.add_subparsers(dest="action", required=True)
    info = actions.add_parser("info", help="what is in it, by network")
    prune = actions.add_parser("prune", help="remove the oldest vectors")
    prune.add_argument("--max-bytes", type=size, metavar="SIZE", help="such as 500M or 20G")
    prune.add_argument("--older-than", type=age, metavar="AGE", help="such as 12h, 30d or 8w")
    verify = actions.add_parser(
        "verify",
        help="check every vector, remove the damaged ones",
        epilog="exit status: 0 all intact; 1 damage found and removed; 2 nothing done",
    )
    for action in (info, prune, verify):
        action.add_argument("directory", help="the folder given as cache=")
        action.add_argument("--json", action="store_true", help="print JSON")


def positive_integer(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value
