"""Measure the time of ``import sktransfer`` beyond ``import sklearn``, in fresh interpreters.

Interleaved rounds, medians. Target: less than 0.1 s.
"""

import argparse
import statistics
import subprocess
import sys
import time

from _common import write_result

CASES = {
    "python": "pass",
    "sklearn": "import sklearn.base, sklearn.pipeline, sklearn.model_selection",
    "sklearn + sktransfer": (
        "import sklearn.base, sklearn.pipeline, sklearn.model_selection; import sktransfer"
    ),
    "sktransfer": "import sktransfer",
    "sklearn + PretrainedCNNFeatures": (
        "import sklearn.base, sklearn.pipeline, sklearn.model_selection; "
        "from sktransfer import PretrainedCNNFeatures"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, code in CASES.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            if number > 0:  # the first round fills the file cache
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{'import':<36} {'median s':>9}")
    for name, median in medians.items():
        print(f"{name:<36} {median:>9.3f}")
    beyond = statistics.median(
        both - alone
        for both, alone in zip(seconds["sklearn + sktransfer"], seconds["sklearn"], strict=True)
    )
    print(f"{'sktransfer beyond sklearn':<36} {beyond:>9.3f}   (median of paired differences)")
    write_result(
        "import_time", {"rounds": rounds, "median_seconds": medians, "beyond_sklearn": beyond}
    )


if __name__ == "__main__":
    main()
