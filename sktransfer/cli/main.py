"""The command line: ``python -m sktransfer demo | extract | rank | check | report | cache``.

Modules of commands import what they work with only when they run, so that ``--help`` loads
neither torch nor scikit-learn.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from sktransfer import __version__
from sktransfer.cli.options import add_command
from sktransfer.cli.printing import one_line, plain_warnings, printable

_COMMANDS = {
    "demo": {"help": "search layers, components and classifiers on scikit-learn's digits"},
    "extract": {
        "help": "write the features of a folder of images to a file",
        "incomplete": "some files could not be read, the rest is written",
    },
    "rank": {
        "help": "which network, or layer, suits a labelled folder of images",
        "incomplete": "some candidates failed or some files were left out, the others are ranked",
    },
    "check": {
        "help": "whether a folder of images, and this installation, are fit for use",
        "success": "nothing to object to",
        "incomplete": "there are findings",
    },
    "report": {
        "help": "an HTML page on what transfers from a network to a folder of images",
        "incomplete": "some files or sections failed or were left out, the rest is reported",
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
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
    for name, texts in _COMMANDS.items():
        module = importlib.import_module(f"sktransfer.cli.{name}")
        module.add_arguments(add_command(commands, name, **texts))
    from sktransfer.cli import cache

    cache.add_arguments(
        commands.add_parser("cache", help="look into, shrink or check a feature store")
    )
    return parser
