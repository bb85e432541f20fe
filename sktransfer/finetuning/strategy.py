"""The parameters of fine-tuning as an estimator, so that searches can set them."""

import copy
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state, check_scalar

from sktransfer._validation import Seed, check_nested
from sktransfer.finetuning.callbacks import copied_callbacks
from sktransfer.finetuning.scoring import scorers_of

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "cosine", "one-cycle", "plateau")
PENALTIES = ("l2-sp", "delta", "bss", "rkd")
ALIGNMENTS = ("coral", "mmd", "dann")
AUGMENTATIONS = ("light", "strong")

FIND = "find"
"""The learning rate that a range test replaces."""

SCHEDULE_CALLBACKS = ("unfreeze", "rate", "stop")
"""Names of the package's callbacks that depend on the position in the whole training."""

RESERVED_CALLBACKS = (*SCHEDULE_CALLBACKS, "monitor", "clip", "pull", "scores")
"""Names of all callbacks of the package."""

PENALTY_WEIGHTS = {"l2-sp": 1.0, "delta": 0.01, "bss": 0.001, "rkd": 1.0}
"""Default weights of the penalties, for ``penalty_weight=None``."""


class FineTune(BaseEstimator):
    """Fine-tuning of a pretrained network on the labels of a task, for ``strategy=``.

    This is model transfer: training continues from the pretrained weights. The object holds
    parameters only. If a transformer such as `PretrainedCNNFeatures` has it, its `fit` tunes the
    network with a temporary linear head and `transform` computes features of the tuned layer; in
    `FineTunedClassifier` and `FineTunedRegressor` network and head stay together. skorch runs the
    epochs.

    Parameters
    ----------
    unfreeze : int, float, str or sequence of str, default=1
        Weights to train besides the head. 1, 2, ...: this number of last stages (see `stages_`),
        with all that follows them up to the layer of the features. A float in (0, 1]: this share
        of the stages, rounded up. "head": none. "all": every weight that the features depend on.
        Any other string, or several: names of modules or parameters, with shell-style wildcards;
        one that matches nothing is an error.
    gradual : int or None, default=None
        Number of epochs after which one more of the stages to train is unfrozen, starting from the
        head alone and the deepest stage [1]_. None unfreezes all of `unfreeze` at once.
    learning_rate : float or "find", default=0.001
        Peak learning rate of the head and the deepest stage. "find" chooses it by a range test
        [15]_: at most a hundred steps on the training rows, from which network, optimizer and
        random draws are set back; the estimator has the rate as `learning_rate_`, and the losses
        of the test as `rate_curve_`.
    layer_decay : float, default=1.0
        Factor of each stage's learning rate relative to that of the next deeper stage [1]_.
    optimizer : {"adamw", "sgd"} or callable, default="adamw"
        "sgd" has Nesterov momentum of 0.9. A class of ``torch.optim`` or a function of its
        signature (``functools.partial`` sets options).
    schedule : {"constant", "cosine", "one-cycle", "plateau"}, default="cosine"
        Change of the learning rates over steps: "cosine" falls to zero [2]_, "one-cycle" rises
        from 1/25 over the first 30 % of the steps and falls to nearly zero [3]_, "plateau" divides
        by ten whenever the loss (on held-out rows, if any) has not fallen for 3 epochs.
    warmup_epochs : float, default=1
        Epochs over which learning rates rise linearly from zero; not for "one-cycle" and
        "plateau". They rise over at least 32 steps and at most a quarter of all; 0 is no warmup.
        Without warmup Adam's first steps, all of full length, distort the features.
    epochs : int, default=10
        Passes over all rows.
    batch_size : int, default=64
        Rows per step.
    weight_decay : float, default=0.01
        Weight decay of weight matrices; biases and batch norm have none, and with
        ``penalty="l2-sp"`` only the head has one.
    early_stopping : bool or "auto", default="auto"
        Hold out rows (stratified by class), stop once the loss on them has not fallen for
        `patience` epochs, and keep the best epoch's weights. "auto" does so if at least ten rows
        of every class are held out, or a hundred for regression: with fewer the estimate is noise,
        and the rows are needed for training.
    validation_fraction : float, default=0.1
        Share of the rows to hold out.
    patience : int, default=5
    class_weight : "balanced", dict or None, default=None
        Weight of each class in the loss, as in scikit-learn.
    sampler : "balanced" or None, default=None
        Draw rows with replacement so that all classes are equally frequent.
    augment : {"light", "strong"}, callable or None, default=None
        Random changes to training images. "light": crops of at least 70 % and mirror images.
        "strong": also one random distortion of shape or colour [4]_ and an erased patch. Or any
        torchvision v2 transform of uint8 or float tensors (channels, height, width). "light" and
        "strong" mirror images: for digits or text pass a transform that does not.
    task : {"auto", "classification", "regression"}, default="auto"
        Task of a transformer: "auto" treats whole numbers of any dtype as classes, and other
        numbers as regression. Classifiers and regressors ignore it.
    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes.
    mixup : float, default=0.0
        Blend each row and its label with another one; the share is drawn from Beta(mixup, mixup)
        [5]_. With a cached trunk its activations are blended [6]_.
    penalty : {"l2-sp", "delta", "bss", "rkd"} or None, default=None
        Penalty that keeps the network close to its source. "l2-sp": after each step weights are
        pulled towards their initial values [7]_, decoupled from the gradient like AdamW's weight
        decay. "delta": activations of the deepest stage stay close, especially in channels that
        matter [8]_. "bss": the smallest singular value of the features of a batch shrinks [9]_.
        "rkd": distances and angles between the rows of a batch stay the same, which is relation
        transfer [10]_.
    penalty_weight : float or None, default=None
        Weight of the penalty. None takes 1, 0.01, 0.001 and 1. With "l2-sp", infinity keeps the
        weights of the source network.
    alignment : {"coral", "mmd", "dann"} or None, default=None
        Align the features of two domains, given as `sample_domain` in `fit` (positive: source,
        negative: target, whose labels are not used): their covariances [11]_, their kernel means
        [12]_, or by making a discriminator unable to distinguish them [13]_.
    alignment_weight : float, default=1.0
    batch_norm : {"frozen", "update"}, default="frozen"
        Whether batch norm in the trained stages keeps the statistics of the source data, or
        updates them by the batches. In frozen stages it never changes.
    head_init : {"probe", "random"}, default="probe"
        "probe" starts from a linear model that is fitted to the features of the untuned network,
        so that the first steps do not distort them [14]_; its penalty is ten times the one that is
        best on held-out rows.
    gradient_clip : float or None, default=1.0
        Largest norm of a step's gradient.
    callbacks : list or None, default=None
        Additional skorch callbacks, or pairs of a name and one; they are cloned, but for open files
        and connections. Those that score get y and predictions as from the fine-tuned estimator.
        Other than ``EarlyStopping``, one that raises KeyboardInterrupt counts as Ctrl-C.
    scoring : str, callable, list, dict or None, default=None
        Scores of the held-out rows after each epoch, for `history_`: the name of a scikit-learn
        scorer, such as "accuracy", or several names; a dict of names to scorers; or a callable of
        net, rows and y, which returns a number or a dict. The net has the methods of the
        estimator, such as `predict`; the rows have the network's form. "accuracy" is recorded as
        "valid_accuracy", and the number of a single callable as "valid_score". Does not decide
        about early stopping. It is an error if no rows are held out (see `early_stopping`).
    cache_trunk : bool, default=True
        Run the frozen part once before the first epoch instead of in each. Without `mixup` it
        affects only time and memory. With `augment` nothing can be cached.
    random_state : int, RandomState instance or None, default=None
        Seed of the training. None takes that of the estimator.

    References
    ----------
    .. [1] J. Howard and S. Ruder, "Universal language model fine-tuning for text classification",
       ACL 2018, sections 3.2 and 3.3.
    .. [2] I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts",
       ICLR 2017, equation 5.
    .. [3] L. N. Smith and N. Topin, "Super-convergence", 2018.
    .. [4] S. Mueller and F. Hutter, "TrivialAugment", ICCV 2021.
    .. [5] H. Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018.
    .. [6] V. Verma et al., "Manifold mixup", ICML 2019.
    .. [7] X. Li, Y. Grandvalet and F. Davoine, "Explicit inductive bias for transfer learning with
       convolutional networks", ICML 2018, equation 3.
    .. [8] X. Li et al., "DELTA: deep learning transfer using feature map with attention", ICLR
       2019.
    .. [9] X. Chen et al., "Catastrophic forgetting meets negative transfer", NeurIPS 2019.
    .. [10] W. Park et al., "Relational knowledge distillation", CVPR 2019.
    .. [11] B. Sun and K. Saenko, "Deep CORAL", ECCV 2016 workshops.
    .. [12] M. Long et al., "Learning transferable features with deep adaptation networks", ICML
       2015.
    .. [13] Y. Ganin et al., "Domain-adversarial training of neural networks", JMLR 2016.
    .. [14] A. Kumar et al., "Fine-tuning can distort pretrained features and underperform
       out-of-distribution", ICLR 2022.
    .. [15] L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section
       3.3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTune, PretrainedCNNFeatures
    >>> digits = load_digits()
    >>> images, labels = digits.images[:60] / 16, digits.target[:60]
    >>> features = PretrainedCNNFeatures(
    ...     image_size=32, strategy=FineTune(unfreeze=1, epochs=2, random_state=0)
    ... )
    >>> features.fit(images, labels).transform(images).shape
    (60, 1280)
    >>> features.trained_parameters_[0]
    'blocks.6.0.conv_pw.weight'
    """

    def __init__(
        self,
        unfreeze: int | float | str | Sequence[str] = 1,
        *,
        gradual: int | None = None,
        learning_rate: float | str = 1e-3,
        layer_decay: float = 1.0,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        schedule: str = "cosine",
        warmup_epochs: float = 1,
        epochs: int = 10,
        batch_size: int = 64,
        weight_decay: float = 0.01,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        patience: int = 5,
        class_weight: str | dict[Any, float] | None = None,
        sampler: str | None = None,
        augment: str | Callable[..., Any] | None = None,
        task: str = "auto",
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        penalty: str | None = None,
        penalty_weight: float | None = None,
        alignment: str | None = None,
        alignment_weight: float = 1.0,
        batch_norm: str = "frozen",
        head_init: str = "probe",
        gradient_clip: float | None = 1.0,
        callbacks: list[Any] | None = None,
        scoring: Any = None,
        cache_trunk: bool = True,
        random_state: Seed = None,
    ) -> None:
        self.unfreeze = unfreeze
        self.gradual = gradual
        self.learning_rate = learning_rate
        self.layer_decay = layer_decay
        self.optimizer = optimizer
        self.schedule = schedule
        self.warmup_epochs = warmup_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.class_weight = class_weight
        self.sampler = sampler
        self.augment = augment
        self.task = task
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.penalty = penalty
        self.penalty_weight = penalty_weight
        self.alignment = alignment
        self.alignment_weight = alignment_weight
        self.batch_norm = batch_norm
        self.head_init = head_init
        self.gradient_clip = gradient_clip
        self.callbacks = callbacks
        self.scoring = scoring
        self.cache_trunk = cache_trunk
        self.random_state = random_state

    def __sklearn_clone__(self) -> Self:
        # A clone has callbacks of its own, but callbacks may hold what cannot be copied.
        plain = copy.copy(self)
        plain.callbacks = None
        other = super(FineTune, plain).__sklearn_clone__()
        other.callbacks = copied_callbacks(self.callbacks)
        return other


def is_frozen(strategy: Any) -> bool:
    """Whether a strategy does not tune the network."""
    return isinstance(strategy, str) and strategy == "frozen"


_CURES = {"strategy": "FineTune()", "pretraining": "Pretraining()"}
"""What parameters must be, by name, to have parameters of their own."""


class HasStrategy(BaseEstimator):
    """An estimator whose parameter `strategy` is a `FineTune`, or a word without parameters."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters, and by names such as ``strategy__epochs`` those of a `FineTune`.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            There is no such parameter.
        """
        check_nested(self, params, _CURES)
        return super().set_params(**params)


def check_strategy(strategy: Any) -> None:
    """Refuse anything but "frozen" and a `FineTune` with valid parameters.

    Raises
    ------
    ValueError, TypeError
        A parameter is invalid; the message names it.
    """
    if is_frozen(strategy):
        return
    if not isinstance(strategy, FineTune):
        raise ValueError(f"strategy must be 'frozen' or a FineTune, got {strategy!r}")
    for name, options in _OPTIONS.items():
        value = getattr(strategy, name)
        if not any(value is option or _same(value, option) for option in options):
            raise ValueError(f"{name} must be one of {options}, got {value!r}")
    for name in ("optimizer", "augment"):
        value = getattr(strategy, name)
        known = OPTIMIZERS if name == "optimizer" else (None, *AUGMENTATIONS)
        if not callable(value) and not any(value is k or _same(value, k) for k in known):
            raise ValueError(f"{name} must be one of {known} or callable, got {value!r}")
    for name in ("epochs", "batch_size", "patience"):
        check_scalar(getattr(strategy, name), name, numbers.Integral, min_val=1)
    if strategy.gradual is not None:
        check_scalar(strategy.gradual, "gradual", numbers.Integral, min_val=1)
    for name, low, high, ends in _RANGES:
        value = getattr(strategy, name)
        if value is None and name in ("gradient_clip", "penalty_weight"):
            continue
        if name == "learning_rate" and isinstance(value, str):
            if value != FIND:
                raise ValueError(
                    f"learning_rate must be a positive number or 'find', got {value!r}"
                )
            continue
        check_scalar(value, name, numbers.Real, min_val=low, max_val=high, include_boundaries=ends)
        if np.isnan(value) or (np.isinf(value) and name != "penalty_weight"):
            raise ValueError(f"{name} must be finite, got {value!r}")
    if np.isinf(strategy.penalty_weight or 0) and strategy.penalty != "l2-sp":
        raise ValueError("penalty_weight may be infinite for penalty='l2-sp' only")
    _check_callbacks(strategy.callbacks)
    scorers_of(strategy.scoring)
    check_random_state(strategy.random_state)


def _check_callbacks(callbacks: Any) -> None:
    if not isinstance(callbacks, list | tuple | None):
        raise ValueError(f"callbacks must be a list of skorch callbacks, got {callbacks!r}")
    for each in callbacks or ():
        name, callback = each if isinstance(each, tuple) else ("", each)
        if not hasattr(callback, "on_train_begin"):
            raise ValueError(
                "callbacks must hold skorch callbacks, or pairs of a name and one, got "
                f"{callback!r}"
            )
        if name in RESERVED_CALLBACKS:
            raise ValueError(f"callbacks must not be named {name!r}, which is in use; rename it")


def _same(value: Any, option: Any) -> bool:
    # Types are compared first: 1 == True, and `==` of an array is no bool.
    return type(value) is type(option) and bool(value == option)


_OPTIONS: dict[str, tuple[Any, ...]] = {
    "schedule": SCHEDULES,
    "early_stopping": (True, False, "auto"),
    "sampler": (None, "balanced"),
    "task": ("auto", "classification", "regression"),
    "penalty": (None, *PENALTIES),
    "alignment": (None, *ALIGNMENTS),
    "batch_norm": ("frozen", "update"),
    "head_init": ("probe", "random"),
    "cache_trunk": (True, False),
}

_RANGES = (
    ("learning_rate", 0, None, "neither"),
    ("layer_decay", 0, 1, "right"),
    ("warmup_epochs", 0, None, "both"),
    ("weight_decay", 0, None, "both"),
    ("validation_fraction", 0, 1, "neither"),
    ("label_smoothing", 0, 1, "left"),
    ("mixup", 0, None, "both"),
    ("penalty_weight", 0, None, "both"),
    ("alignment_weight", 0, None, "both"),
    ("gradient_clip", 0, None, "neither"),
)
