"""Ways to lay hands on data."""

from sktransfer.datasets.folder import list_images

__all__ = ["list_images"]
