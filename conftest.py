"""Settings that must be in place before scipy and OpenVINO are imported."""

import os

import pytest

# Without it scikit-learn skips the array API part of check_estimator.
os.environ["SCIPY_ARRAY_API"] = "1"

# Elsewhere OpenVINO reports each import and conversion to its makers, from a process that it
# forks off this one, which takes longer than converting a small network.
os.environ.setdefault("CI", "true")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the examples in documentation as slow, for they show networks of full size."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.slow)
