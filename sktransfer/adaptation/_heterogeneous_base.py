"""Base class of the maps between domains with different features.

X has a block of columns for each domain, and NaN in the block whose features a row lacks.
"""

from collections.abc import Sequence

import numpy as np

from sktransfer._validation import check_count
from sktransfer.adaptation._base import DomainMap

_DOMAINS = ("source", "target")


class HeterogeneousMap(DomainMap):
    """A map between domains with different features; of each row it reads its domain's block."""

    _use_of_labels = "compares classes"
    _without_domains = "a row counts as one of each domain whose features it has"
    _finite = "allow-nan"

    n_source_features: int | None
    n_source_features_: int

    def _in_domains(self, table: np.ndarray) -> Sequence[np.ndarray]:
        self.n_source_features_ = self._width(table.shape[1])
        known = [_known(*block) for block in self._blocks(table)]
        if not (known[0].any() and known[1].any()):
            raise ValueError(
                "X has no row with the features of one domain; check n_source_features"
            )
        return known

    def _rows(
        self, table: np.ndarray, in_source: np.ndarray, in_target: np.ndarray
    ) -> Sequence[np.ndarray]:
        rows = []
        for (block, domain), chosen in zip(
            self._blocks(table), (in_source, in_target), strict=True
        ):
            lacking = chosen & ~_known(block, domain)
            if lacking.any():
                raise ValueError(
                    f"Input X contains NaN in row {lacking.argmax()}, a row of the {domain}, for "
                    f"all of the {domain}'s features; check sample_domain and n_source_features"
                )
            rows.append(block[chosen])
        return rows

    def _blocks(self, table: np.ndarray) -> list[tuple[np.ndarray, str]]:
        """The columns of each domain, with its name for messages."""
        return list(zip(np.hsplit(table, [self.n_source_features_]), _DOMAINS, strict=True))

    def _width(self, n_features: int) -> int:
        if n_features < 2:
            raise ValueError(
                f"{type(self).__name__} needs columns of the source and of the target in X, got "
                f"n_features = {n_features}; see stack_heterogeneous"
            )
        if self.n_source_features is None:
            return (n_features + 1) // 2
        check_count("n_source_features", self.n_source_features, high=n_features - 1)
        return self.n_source_features


def _known(block: np.ndarray, domain: str) -> np.ndarray:
    """Mask of the rows that have the features of a domain; a row has all of them or none."""
    missing = np.isnan(block)
    partly = missing.any(axis=1) & ~missing.all(axis=1)
    if partly.any():
        row = partly.argmax()
        raise ValueError(
            f"Input X contains NaN in some of the {domain}'s features: in row {row} in column "
            f"{missing[row].argmax()} of them. A row has all features of a domain or none; impute "
            "the values, or check n_source_features"
        )
    return ~missing[:, 0]
