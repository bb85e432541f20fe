"""Small images at points of a plot, none on top of another."""

from typing import Any

import numpy as np
from PIL import Image

from sktransfer.images.reading import read_image
from sktransfer.images.sources import take

_MAX_PIXELS = 89_478_485
_GAP = 3.0
"""Points between two thumbnails, which have a frame."""


def add_thumbnails(
    ax: Any, points: np.ndarray, images: Any, edges: Any, size: float, most: int
) -> tuple[list[Any], np.ndarray]:
    """Show images at their points where there is room.

    Parameters
    ----------
    ax : matplotlib Axes
        With everything else on it: its place in the figure decides what overlaps.
    points : ndarray of shape (n, 2)
    images : sequence of n images
    edges : sequence of n colours
        Of the frames.
    size : float
        Longer side, in points (1/72 inch).
    most : int
        Not more than these.

    Returns
    -------
    list of AnnotationBbox, ndarray of int
        And the numbers of their points.
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    ax.autoscale_view()
    limits = ax.axis()
    ax.figure.draw_without_rendering()  # the layout settles
    pixels_per_point = ax.figure.dpi / 72
    places = ax.transData.transform(points) / pixels_per_point
    box = ax.get_window_extent()
    frame = np.array([[box.x0, box.y0], [box.x1, box.y1]]) / pixels_per_point
    chosen = roomy(places, frame, size + _GAP, most)
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
                bboxprops={"color": edges[point], "linewidth": 1.2},
                zorder=4,
            )
        )
        ax.add_artist(boxes[-1])
    ax.axis(limits)
    return boxes, chosen


def roomy(places: np.ndarray, frame: np.ndarray, side: float, most: int) -> np.ndarray:
    """Points, at most so many, of which squares within a frame do not overlap.

    Points are taken one by one, each the farthest from those taken before, the first nearest to
    the middle: so they spread over the whole plane.

    Parameters
    ----------
    places : ndarray of shape (n, 2)
    frame : ndarray of shape (2, 2)
        Lower left and upper right corner.
    side : float
        Of the squares.
    most : int
    """
    inside = ((places >= frame[0] + side / 2) & (places <= frame[1] - side / 2)).all(axis=1)
    candidates = np.flatnonzero(inside)
    if not len(candidates):
        return candidates
    middle = np.abs(places[candidates] - np.median(places[candidates], axis=0)).max(axis=1)
    chosen = [int(middle.argmin())]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < most:
        gap = np.abs(places[candidates] - places[candidates[chosen[-1]]]).max(axis=1)
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
        pixels = read_image(item, channels="last", value_range=None, max_pixels=_MAX_PIXELS)
    whole = isinstance(pixels, Image.Image)
    picture = pixels if whole else Image.fromarray(_bytes(np.asarray(pixels)))
    if max(picture.size) > side:
        picture.thumbnail((side, side))
    return np.asarray(picture)


def _bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels as uint8: floats within [0, 1] as they are, other numbers over their own range."""
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
