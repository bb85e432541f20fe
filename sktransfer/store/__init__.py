"""Feature vectors that outlive a fit, a search and a process."""

from sktransfer.store.feature_store import FeatureStore

__all__ = ["FeatureStore"]
