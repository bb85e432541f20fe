"""Series to learn from."""

import numpy as np


def waves(n=60, lengths=(30, 50), n_channels=1):
    """Ragged series of two frequencies, and which they are."""
    draw = np.random.RandomState(0)
    y = np.arange(n) % 2
    X = []
    for kind in y:
        time = np.arange(draw.randint(*lengths))[:, None]
        phase = draw.uniform(0, 6, n_channels)
        noise = draw.normal(0, 0.5, (len(time), n_channels))
        X.append(np.sin(time * (0.4 + 0.15 * kind) + phase) + noise)
    return X, y
