"""The parameters of self-supervised pretraining as an estimator, so that searches can set them."""

import numbers
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_scalar

OBJECTIVES = ("contrastive", "forecast", "masked", "autoencode")


class Pretraining(BaseEstimator):
    """Self-supervised pretraining of a sequence network, for ``pretraining=``.

    The object holds parameters only; `RNNSequenceFeatures.fit` pretrains its network on the
    sequences that it gets, without labels.

    Parameters
    ----------
    objective : {"contrastive", "forecast", "masked", "autoencode"}, default="contrastive"
        Task that the network learns. "contrastive": distinguish two crops of the same sequence,
        each rescaled and with noise, from crops of others [1]_; learns attention, too. "forecast":
        predict the next step; for tokens this is a language model. "masked": predict masked spans
        [2]_. "autoencode": predict every step from the last state alone [3]_.
    epochs : int, default=20
        Passes over all sequences.
    learning_rate : float, default=0.001
        Initial learning rate of AdamW; it falls to zero along a cosine.
    batch_size : int, default=64
        Sequences per step.
    weight_decay : float, default=0.0001
        Weight decay of AdamW.
    temperature : float, default=0.15
        Temperature of the contrastive objective: the smaller, the more the most similar other
        crops count.

    References
    ----------
    .. [1] T. Chen, S. Kornblith, M. Norouzi and G. Hinton, "A simple framework for contrastive
       learning of visual representations", ICML 2020, equation 1.
    .. [2] J. Devlin et al., "BERT: pre-training of deep bidirectional transformers for language
       understanding", NAACL 2019, section 3.1, for series as in G. Zerveas et al., "A
       transformer-based framework for multivariate time series representation learning", KDD 2021.
    .. [3] N. Srivastava, E. Mansimov and R. Salakhutdinov, "Unsupervised learning of video
       representations using LSTMs", ICML 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import Pretraining, RNNSequenceFeatures
    >>> unlabelled = np.sin(np.linspace(0, 20, 50) + np.arange(100)[:, None])
    >>> features = RNNSequenceFeatures(
    ...     pretraining=Pretraining("forecast", epochs=3), random_state=0
    ... )
    >>> losses = features.fit(unlabelled).pretraining_loss_
    >>> bool(losses[-1] < losses[0])
    True
    """

    def __init__(
        self,
        objective: str = "contrastive",
        *,
        epochs: int = 20,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
        weight_decay: float = 1e-4,
        temperature: float = 0.15,
    ) -> None:
        self.objective = objective
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.temperature = temperature


def resolve_pretraining(value: Any) -> Pretraining | None:
    """Checked value of ``pretraining=``, with a `Pretraining` for the name of an objective.

    Raises
    ------
    ValueError
        It is neither None, an objective nor a `Pretraining`, or a parameter is out of range.
    """
    if value is None:
        return None
    strategy = Pretraining(value) if isinstance(value, str) else value
    if not isinstance(strategy, Pretraining) or strategy.objective not in OBJECTIVES:
        raise ValueError(
            f"pretraining must be None, one of {OBJECTIVES}, or a Pretraining with such an "
            f"objective, got {value!r}"
        )
    check_scalar(strategy.epochs, "epochs", numbers.Integral, min_val=1)
    check_scalar(strategy.batch_size, "batch_size", numbers.Integral, min_val=2)
    for name in ("learning_rate", "temperature", "weight_decay"):
        if not np.isfinite(getattr(strategy, name)):
            raise ValueError(f"{name} must be finite, got {getattr(strategy, name)!r}")
    for name in ("learning_rate", "temperature"):
        check_scalar(
            getattr(strategy, name), name, numbers.Real, min_val=0, include_boundaries="neither"
        )
    check_scalar(strategy.weight_decay, "weight_decay", numbers.Real, min_val=0)
    return strategy
