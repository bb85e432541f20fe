"""The command line: ``python -m sktransfer demo | extract | rank | check | report | cache``.

Commands are imported when they are run, so that ``--help`` loads neither torch nor scikit-learn.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from sktransfer import __version__
from sktransfer.cli.printing import one_line, plain_warnings, printable

_STATUS = """\
exit status:
  0    {fine}{partly}
  2    nothing done; stderr says why
  130  interrupted
  141  nobody reads the output any more

The result goes to stdout, progress and errors go to stderr.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str or None
        Without the program's name; None takes ``sys.argv``.
    """
    options = _parser().parse_args(arguments)
    try:
        with plain_warnings():
            status: int = importlib.import_module(f"sktransfer.cli.{options.command}").main(options)
        sys.stdout.flush()  # a reader that went away is noticed here, not at exit
        return status
    except BrokenPipeError:
        # What is left in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        print(f"sktransfer: error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sktransfer: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Repeats what it was given only in printable form."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="sktransfer",
        description="Transfer learning as scikit-learn estimators.",
        epilog="`sktransfer COMMAND --help` explains a command and its exit status.",
    )
    parser.add_argument("--version", action="version", version=f"sktransfer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_extract(commands)
    _add_rank(commands)
    _add_check(commands)
    _add_report(commands)
    _add_cache(commands)
    return parser


# --- one function per command ----------------------------------------------------------------


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = _command(
        commands,
        "demo",
        help="search layers, components and classifiers on scikit-learn's digits",
        description="Few-label digits from a frozen ImageNet network; offline, a minute or two.",
    )
    demo.add_argument(
        "--plot",
        default="sktransfer-demo.png",
        metavar="FILE",
        help="where the plot goes (default: %(default)s)",
    )
    demo.add_argument(
        "--seeds", type=positive_integer, default=5, metavar="N", help="random splits (default: 5)"
    )


def _add_extract(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    extract = _command(
        commands,
        "extract",
        help="write the features of a folder of images to a file",
        description=(
            "Features of every image below a folder. With one subfolder per class, and five images "
            "or more in each, every layer is also scored by cross-validation (scaler, PCA, LDA); "
            "files beside the subfolders have no class and do not count there. "
            "Files that cannot be read are listed and become rows of NaN."
        ),
        partly="some files could not be read, the rest is written",
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
    _add_network(extract)


def _add_rank(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    rank = _command(
        commands,
        "rank",
        help="which network, or layer, suits a labelled folder of images",
        description=(
            "Rank networks by how well their features suit the classes, the subfolders of a "
            "folder. Each network sees every image once and none is trained. A score compares "
            "candidates on these images and means nothing elsewhere. Images that cannot be read, "
            "and files beside the subfolders, are left out."
        ),
        partly="some candidates failed or some files were left out, the others are ranked",
    )
    rank.add_argument("directory", help="folder of images, one subfolder per class")
    rank.add_argument(
        "--backbone",
        action="append",
        metavar="NAME",
        help="repeat for several (default: all whose weights are on this machine)",
    )
    rank.add_argument(
        "--layer",
        action="append",
        metavar="NAME",
        help="layer to judge; repeat to compare several; -2 is the last stage but one of any "
        "network (default: penultimate)",
    )
    rank.add_argument(
        "--metric",
        choices=("logme", "h_score", "transrate"),
        default="logme",
        help="the higher the better (default: %(default)s)",
    )
    _add_network(rank)


def _add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    check = _command(
        commands,
        "check",
        help="whether a folder of images, and this installation, are fit for use",
        description=(
            "Read every image below a folder as `extract` would, and list what is broken or odd: "
            "files that cannot be read or have too many pixels, pictures that occur twice (also "
            "under two classes), blank ones, classes with few images or with a colour mode of "
            "their own. Then, and without a folder alone: versions of packages against what "
            "sktransfer needs, devices, whether the engines agree, and whether the weights on "
            "this machine have the SHA-256 they should have."
        ),
        fine="nothing to object to",
        partly="there are findings",
    )
    check.add_argument("directory", nargs="?", help="folder of images, one subfolder per class")
    check.add_argument(
        "--min-images",
        type=positive_integer,
        default=5,
        metavar="N",
        help="fewer in a class are a finding (default: %(default)s, one per fold)",
    )
    check.add_argument(
        "--max-pixels",
        type=positive_integer,
        default=89_478_485,
        metavar="N",
        help="larger images are a finding, as everywhere in sktransfer (default: %(default)s)",
    )
    check.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from sktransfer.cli.report import add_arguments

    report = _command(
        commands,
        "report",
        help="an HTML page on what transfers from a network to a folder of images",
        partly="some files or sections failed or were left out, the rest is reported",
    )
    add_arguments(report)


def _add_cache(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from sktransfer.cli.cache import age, size

    cache = commands.add_parser("cache", help="look into, shrink or check a feature store")
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    _command(actions, "info", help="what is in it, by network")
    prune = _command(actions, "prune", help="remove the oldest vectors")
    prune.add_argument("--max-bytes", type=size, metavar="SIZE", help="such as 500M or 20G")
    prune.add_argument("--older-than", type=age, metavar="AGE", help="such as 12h, 30d or 8w")
    _command(
        actions,
        "verify",
        help="check every vector, remove the damaged ones",
        fine="all intact",
        partly="damage found and removed",
    )
    for action in actions.choices.values():
        action.add_argument("directory", help="the folder given as cache=")


# --- what they share -------------------------------------------------------------------------


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    *,
    help: str,
    partly: str | None = None,
    description: str | None = None,
    fine: str = "all went well",
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=help,
        description=description or f"{help[0].upper()}{help[1:]}.",
        epilog=_STATUS.format(fine=fine, partly=f"\n  1    {partly}" if partly else ""),
        formatter_class=_Formatter,
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    return command


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Fills the description, and leaves the table of exit statuses as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def _add_network(command: argparse.ArgumentParser) -> None:
    """How images are read and networks run."""
    command.add_argument(
        "--pooling", default="avg", metavar="KIND", help="avg, max, avg+max, gem, cls or flatten"
    )
    command.add_argument(
        "--image-size",
        type=positive_integer,
        metavar="PIXELS",
        help="what the network gets (default: its own size; small images need a small one)",
    )
    command.add_argument("--batch-size", type=positive_integer, default=64, metavar="N")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    command.add_argument("--engine", default="auto", help="auto, torch or openvino")
    command.add_argument("--precision", default="float32", help="float32 or bfloat16")
    command.add_argument(
        "--cache", metavar="FOLDER", help="feature store: what is in it is not computed again"
    )
    command.add_argument(
        "--fast-decode", action="store_true", help="decode large JPEG files at reduced size"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def positive_integer(text: str) -> int:
    """A count from the command line."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return value
