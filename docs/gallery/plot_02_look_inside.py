"""
What a network sees in a photograph
===================================

Two photographs come with scikit-learn: a palace and a flower. This example shows the maps of an
early and of a middle layer, and the image regions on which a classifier after the network relies.
"""

# %%
# An early layer responds to edges and colours. Each map below is one channel; those that vary
# most come first.

import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sktransfer import PretrainedCNNFeatures
from sktransfer.inspection import FeatureMapDisplay, GradCAMDisplay

palace, flower = load_sample_images().images
extractor = PretrainedCNNFeatures(image_size=224, resize="squash").fit([palace])
display = FeatureMapDisplay.from_estimator(extractor, palace, layer="blocks.0", n_channels=12)
display.figure_.suptitle("an early layer, blocks.0")

# %%
# A middle layer has smaller maps that respond to parts of objects:

display = FeatureMapDisplay.from_estimator(extractor, palace, layer="blocks.3", n_channels=12)
display.figure_.suptitle("a middle layer, blocks.3")

# %%
# Now we train a classifier of our own, which separates small windows of the palace from windows
# of the flower. Any classifier of scikit-learn may follow the network; this one learns from 60
# windows of 100 x 100 pixels.

rng = np.random.default_rng(0)


def windows(photo, n):
    tops = rng.integers(0, photo.shape[0] - 100, n)
    lefts = rng.integers(0, photo.shape[1] - 100, n)
    return [photo[t : t + 100, x : x + 100] for t, x in zip(tops, lefts, strict=True)]


X = windows(palace, 30) + windows(flower, 30)
y = np.repeat(["palace", "flower"], 30)
pipeline = make_pipeline(
    PretrainedCNNFeatures(layer="blocks.4", image_size=96, resize="squash"),
    LogisticRegression(C=0.1, max_iter=1000),
).fit(X, y)
unseen = windows(palace, 50) + windows(flower, 50)
print("right on 100 other windows:", pipeline.score(unseen, np.repeat(["palace", "flower"], 50)))

# %%
# The classifier has never seen both at once. We give it a picture of both, at the same scale as
# the windows: the network takes images of any size, and the trained classifier is used as it is.
# Grad-CAM shows which part of the picture raises the score of either class.

half = palace.shape[1] // 2
collage = np.concatenate([palace[:416, 60 : 60 + half], flower[:416, 150 : 150 + half]], axis=1)
whole = PretrainedCNNFeatures(layer="blocks.4", image_size=collage.shape[:2], resize="squash")
explained = make_pipeline(whole.fit([collage]), pipeline[-1])
GradCAMDisplay.from_estimator(explained, [collage, collage], target=["palace", "flower"])

# %%
# The palace is recognised by its roofs and walls, the flower by its petals. The dark background,
# which was in many windows of the flower, contributes little. A heatmap is relative to its own
# maximum: it shows which regions matter, not how reliable the decision is.
