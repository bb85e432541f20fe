"""Pretrained networks by name, with their preprocessing, licence and weights."""

from sktransfer.backbones.entry import BackboneInfo
from sktransfer.backbones.registry import (
    Backbone,
    describe_backbone,
    list_backbones,
    load_backbone,
)

__all__ = ["Backbone", "BackboneInfo", "describe_backbone", "list_backbones", "load_backbone"]
