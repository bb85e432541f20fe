"""The engine under the estimators: images in, pooled activations out.

It knows networks and arrays, no estimator and no registry of backbones.
"""
