"""Options and help that commands share, and the feature extractor that options describe."""

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sktransfer.features import PretrainedCNNFeatures

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_EXIT_STATUS = """\
exit status:
  0    {success}{incomplete}
  2    nothing done; stderr says why
  130  interrupted
  141  nobody reads the output any more

The result goes to stdout, progress and errors go to stderr.
"""

N_FOLDS = 5
"""Default of cross-validation."""

MIN_IMAGES = N_FOLDS
"""Images of a class below which `check` has a finding, `rank` a warning and `extract` no score."""


def add_command(
    commands: "Subparsers",
    name: str,
    *,
    help: str,
    success: str = "all went well",
    incomplete: str = "",
) -> argparse.ArgumentParser:
    """Add a command that can print JSON and whose help explains its exit status.

    Without `incomplete` there is no status 1.
    """
    status_1 = f"\n  1    {incomplete}" if incomplete else ""
    command = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=_EXIT_STATUS.format(success=success, incomplete=status_1),
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


def at_least(low: int) -> Callable[[str], int]:
    """A type of options that takes whole numbers from `low` on."""

    def whole_number(text: str) -> int:
        digits = text.strip().removeprefix("+")
        value = int(digits) if digits.isdecimal() else low - 1
        if value < low:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of at least {low}, got {text!r}"
            )
        return value

    return whole_number


def layer_or_stage(text: str) -> str | int:
    """A type of options that takes names of layers, and numbers of stages."""
    return int(text) if text.removeprefix("-").isdecimal() else text


def add_directory(command: argparse.ArgumentParser) -> None:
    """Add the folder of images that a command reads."""
    command.add_argument("directory", help="folder of images, one subfolder per class")


def add_backbone(command: argparse.ArgumentParser) -> None:
    """Add the options that name one network and its weights."""
    command.add_argument("--backbone", default="efficientnet_lite0", metavar="NAME")
    command.add_argument(
        "--weights", default="default", metavar="FILE", help="'default', 'random' or a path"
    )


def add_extraction(command: argparse.ArgumentParser) -> None:
    """Add the options that say how images are read and networks run."""
    command.add_argument(
        "--pooling", default="mean", metavar="KIND", help="mean, max, mean+max, gem, cls or flatten"
    )
    command.add_argument(
        "--image-size",
        type=at_least(1),
        metavar="PIXELS",
        help="what the network gets (default: its own size; small images need a small one)",
    )
    command.add_argument("--batch-size", type=at_least(1), default=64, metavar="N")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    command.add_argument("--engine", default="auto", help="auto, torch or openvino")
    command.add_argument("--precision", default="float32", help="float32 or bfloat16")
    command.add_argument(
        "--cache", metavar="FOLDER", help="feature store: what is in it is not computed again"
    )
    command.add_argument(
        "--fast-decode", action="store_true", help="decode large JPEG files at reduced size"
    )
    add_value_range(command)
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def add_value_range(command: argparse.ArgumentParser) -> None:
    """Add the option that tells black and white of deep files."""
    command.add_argument(
        "--value-range",
        nargs=2,
        type=float,
        metavar=("BLACK", "WHITE"),
        help="values of black and white in files deeper than 8 bits (default: 0 to 1 for floats, "
        "the full scale for 16 bits; needed for other whole numbers)",
    )


def value_range_of(options: argparse.Namespace) -> tuple[float, float] | None:
    """What the option of `add_value_range` says."""
    if options.value_range is None:
        return None
    low, high = options.value_range
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"--value-range must be two numbers, black below white, got {low} {high}")
    return low, high


def extractor_of(options: argparse.Namespace, **parameters: Any) -> "PretrainedCNNFeatures":
    """The transformer that the options of `add_extraction` describe."""
    from sktransfer.features import PretrainedCNNFeatures

    return PretrainedCNNFeatures(
        pooling=options.pooling,
        image_size=options.image_size,
        batch_size=options.batch_size,
        device=options.device,
        engine=options.engine,
        precision=options.precision,
        cache=options.cache,
        fast_decode=options.fast_decode,
        value_range=value_range_of(options),
        **parameters,
    )
