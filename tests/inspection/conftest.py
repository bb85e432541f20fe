"""Pictures are drawn into memory, and closed after each test."""

from collections.abc import Iterator

import matplotlib
import pytest

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture
def without(monkeypatch):
    """Make a package impossible to import."""
    import sys

    def hide(name: str) -> None:
        for module in [*sys.modules]:
            if module == name or module.startswith(f"{name}."):
                monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)

    return hide
