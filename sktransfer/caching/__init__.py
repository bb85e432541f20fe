"""Feature vectors that outlive a fit, a search and a process."""

from sktransfer.caching.store import FeatureStore

__all__ = ["FeatureStore"]
