"""Thumbnails at the points of a plot that do not overlap."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sktransfer.images.pixels import ReadingOptions
from sktransfer.images.reading import read_image
from sktransfer.images.sources import take

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.offsetbox import AnnotationBbox

_MAX_PIXELS = 89_478_485
_GAP = 3.0
"""Distance between two thumbnails in points (1/72 inch), which their frames need."""


def add_thumbnails(
    ax: "Axes",
    points: np.ndarray,
    images: Any,
    edge_colours: Sequence[Any],
    size: float,
    max_count: int,
) -> tuple[list["AnnotationBbox"], np.ndarray]:
    """Show images at their points where they do not overlap, and return their points' numbers.

    Everything else must be drawn on the axes before, as the layout decides what overlaps. The
    size is that of the longer side, in points (1/72 inch).
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    ax.autoscale_view()
    limits = ax.axis()
    figure: Any = ax.figure
    figure.draw_without_rendering()  # computes the layout, and so the positions below
    pixels_per_point = ax.figure.dpi / 72
    positions = ax.transData.transform(points) / pixels_per_point
    box = ax.get_window_extent()
    frame = np.array([[box.x0, box.y0], [box.x1, box.y1]]) / pixels_per_point
    chosen = without_overlap(positions, frame, size + _GAP, max_count)
    boxes = []
    for point in chosen:
        pixels = thumbnail(take(images, int(point)), 2 * int(np.ceil(size * pixels_per_point)))
        picture = OffsetImage(
            pixels,
            zoom=size / max(pixels.shape[:2]),
            cmap="gray",
            norm="linear",
            interpolation="antialiased",
        )
        picture.image.set_clim(0, 255)
        boxes.append(
            AnnotationBbox(
                picture,
                tuple(points[point]),
                pad=0.08,
                bboxprops={"color": edge_colours[point], "linewidth": 1.2},
                zorder=4,
            )
        )
        ax.add_artist(boxes[-1])
    ax.axis(limits)
    return boxes, chosen


def without_overlap(
    positions: np.ndarray, frame: np.ndarray, side: float, max_count: int
) -> np.ndarray:
    """Choose points around which squares fit into a frame without overlapping.

    The first point is the one nearest to the middle, each further one the farthest from those
    chosen before, so that the points spread over the whole frame.
    """
    inside = ((positions >= frame[0] + side / 2) & (positions <= frame[1] - side / 2)).all(axis=1)
    candidates = np.flatnonzero(inside)
    if not len(candidates):
        return candidates
    middle = np.abs(positions[candidates] - np.median(positions[candidates], axis=0)).max(axis=1)
    chosen = [int(middle.argmin())]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < max_count:
        gap = np.abs(positions[candidates] - positions[candidates[chosen[-1]]]).max(axis=1)
        distance = np.minimum(distance, gap)
        farthest = int(distance.argmax())
        if distance[farthest] < side:
            break
        chosen.append(farthest)
    return candidates[chosen]


def thumbnail(item: Any, side: int) -> np.ndarray:
    """An image as uint8 of shape (height, width) or (height, width, 3), no longer than `side`."""
    pixels = item
    if isinstance(item, Image.Image) or not hasattr(item, "__array__"):
        pixels = read_image(item, ReadingOptions(_MAX_PIXELS))
    is_picture = isinstance(pixels, Image.Image)
    picture = pixels if is_picture else Image.fromarray(_as_uint8(np.asarray(pixels)))
    if max(picture.size) > side:
        picture.thumbnail((side, side))
    return np.asarray(picture)


def _as_uint8(pixels: np.ndarray) -> np.ndarray:
    """Pixels as uint8: 0 to 1 becomes 0 to 255; numbers beyond are scaled by their own range."""
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3):
        raise ValueError(
            "images must be of shape (height, width) or (height, width, channels) each, got one of "
            f"shape {pixels.shape}"
        )
    if pixels.dtype == np.uint8:
        return pixels
    values = pixels.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        values = (values - low) / max(high - low, 1e-12)
    return np.rint(255 * values).astype(np.uint8)
