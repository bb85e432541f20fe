"""Loaders for image folders and for a small text data set that needs no download."""

from sktransfer.datasets.folder import list_images
from sktransfer.datasets.summaries import load_scipy_summaries

__all__ = ["list_images", "load_scipy_summaries"]
