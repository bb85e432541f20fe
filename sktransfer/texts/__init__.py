"""Texts on their way through a transformer: reading, tokens, batches, layers and pooling.

No estimators.
"""
