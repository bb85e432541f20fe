"""Pictures of rows of X."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from sktransfer.inspection._subset import Subset
from sktransfer.inspection.report.samples import Samples
from sktransfer.inspection.report.text import number, plain

_SIDE = 192
"""Pixels of the longer side of a thumbnail: twice what is shown, for fine screens."""

_SMALL = 64
_MOST_STEPS = 240
_MOST_CHANNELS = 4
_MOST_VALUES = 8
_MOST_CHARACTERS = 260
_WIDTH, _HEIGHT, _MARGIN = 160, 60, 3


def picture_of(samples: Samples, row: int) -> dict[str, Any]:
    """A row of X as the image, the lines or the text of a card."""
    value = samples.value(row)
    if samples.kind == "images":
        image = thumbnail(value)
        return {"image": _uri(image), "is_small": max(image.size) <= _SMALL}
    if samples.kind == "series":
        return {"lines": _lines(np.asarray(value, dtype=np.float64))}
    if samples.kind == "texts":
        return {"text": plain(" ".join(value.split()), _MOST_CHARACTERS)}
    values = np.asarray(value).ravel()
    shown = ", ".join(
        number(each) if isinstance(each, float) else str(each)
        for each in values[:_MOST_VALUES].tolist()
    )
    more = ", \N{HORIZONTAL ELLIPSIS}" if len(values) > _MOST_VALUES else ""
    return {"text": plain(shown + more, _MOST_CHARACTERS)}


def thumbnail(value: Any) -> Image.Image:
    """An image from `read_image` as a Pillow image of at most 192 pixels."""
    if not isinstance(value, Image.Image):
        pixels = np.asarray(value)
        if pixels.dtype != np.uint8:
            pixels = np.rint(255 * pixels).astype(np.uint8)
        pixels = pixels[:, :, 0] if pixels.shape[2] not in (3, 4) else pixels
        value = Image.fromarray(pixels)
    value = value.convert("L" if value.mode == "L" else "RGB")
    value.thumbnail((_SIDE, _SIDE))
    return value


class Thumbnails(Subset):
    """Images of some rows of `Samples`, read when they are asked for."""

    def __getitem__(self, index: Any) -> Any:
        return thumbnail(self.items.value(int(self.positions[index])))


def _uri(image: Image.Image) -> str:
    # Photographs are a tenth of the size as JPEG; drawings and small images keep their edges.
    photo = image.mode == "RGB" and max(image.size) > _SMALL
    buffer = io.BytesIO()
    if photo:
        image.save(buffer, "JPEG", quality=82)
    else:
        image.save(buffer, "PNG", optimize=True)
    kind = "jpeg" if photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _lines(series: np.ndarray) -> list[str]:
    """Polylines of the channels, on one scale, within 160 x 60."""
    steps = np.unique(np.linspace(0, len(series) - 1, _MOST_STEPS).astype(int))
    values = series[steps, :_MOST_CHANNELS]
    low, high = float(values.min()), float(values.max())
    spread = high - low if high > low else 1.0
    x = _MARGIN + (_WIDTH - 2 * _MARGIN) * np.linspace(0, 1, len(steps))
    y = _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * (values - low) / spread
    if len(steps) == 1:
        x, y = np.array([_MARGIN, _WIDTH - _MARGIN]), np.repeat(y, 2, axis=0)
    return [
        " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, channel, strict=True)) for channel in y.T
    ]
