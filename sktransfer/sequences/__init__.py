"""Sequences of unequal length on their way through a recurrent network.

Reading, views, batches and pooling; no estimators.
"""
