"""The parameters of fine-tuning as an estimator, so that searches can set them."""

import copy
import numbers
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state, check_scalar

from sktransfer._validation import Seed, check_nested
from sktransfer.finetuning.callbacks import copied_callbacks
from sktransfer.finetuning.scoring import scorers_of

TUNES = ("all", "bias", "norm", "lora")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "cosine", "one-cycle", "plateau")
AVERAGES = ("ema", "swa")
PENALTIES = ("l2-sp", "delta", "bss", "rkd")
ALIGNMENTS = ("coral", "mmd", "dann")
AUGMENTATIONS = ("light", "strong")
LOSSES = ("cross-entropy", "logit-adjusted", "focal")

FIND = "find"
"""The learning rate that a range test replaces."""

SCHEDULE_CALLBACKS = ("unfreeze", "rate", "average", "stop", "checkpoint")
"""Names of the package's callbacks that depend on the position in the whole training."""

RESERVED_CALLBACKS = (*SCHEDULE_CALLBACKS, "monitor", "updates", "clip", "pull", "scores")
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
    tune : {"all", "bias", "norm", "lora"}, default="all"
        What to train of these weights: all of them; only vectors that are biases [23]_; only
        scales and shifts of normalisation layers (batch, layer, group, RMS) [24]_; or low-rank
        updates of the matrices of linear, attention, recurrent and convolutional layers [25]_,
        which are merged into the matrices. Other weights stay as they are. Where nothing is left
        to train, it is an error.
    rank : int, default=8
        Rank of the updates with ``tune="lora"``.
    gradual : int or None, default=None
        Number of epochs after which one more of the stages to train is unfrozen, starting from the
        head alone and the deepest stage [1]_. None unfreezes all of `unfreeze` at once.
    learning_rate : float, "find" or None, default=None
        Peak learning rate of the head and the deepest stage. None takes what suits the samples:
        0.001 for images and sequences and for a head alone, 0.0001 for the weights of text
        networks. "find" chooses it by a range test [27]_: at most a hundred steps on the training
        rows, from which network, optimizer and random draws are set back; the estimator has the
        rate as `learning_rate_`, and the losses of the test as `rate_curve_`. With another `tune`
        than "all" the rate of the stage is ten times as high, as biases and factors need larger
        steps.
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
    epochs : int or None, default=None
        Passes over all rows. None makes at least 10, and as many as `min_steps` takes.
    min_steps : int, default=100
        Least number of steps for ``epochs=None``.
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
    average : {"ema", "swa"} or None, default=None
        Keep an average of the weights over steps in place of the last ones. "ema": exponential,
        with a horizon of a fifth of all steps, corrected for its beginning. "swa": the equal mean
        over the last quarter of the steps [19]_; an epoch before that has its own weights.
        Held-out rows judge the average, and the best epoch's average is kept. Updated statistics
        of batch norm are averaged like weights. `partial_fit` continues from the average, and
        averages over its own steps.
    interpolate : float, "auto" or None, default=None
        Take the weights between the source network with its initial head (0) and the tuned one (1)
        in body and head alike [20]_. Half-way is less sure of itself, and may cost accuracy.
        "auto" chooses among 0, 0.1, ... 1 by the loss on the rows that `guard` or early stopping
        leaves out, and is 0.5 without any. The estimator keeps both ends, so that
        `interpolate_weights` gives any other point without training; `partial_fit` continues from
        the tuned end. None is the tuned network and keeps nothing else.
    guard : bool or "auto", default="auto"
        Compare the tuned network with the frozen one on rows that neither has seen, keep the
        frozen one (with a warning) if tuning has made it worse by more than a standard error, and
        divide scores by the temperature that makes probabilities right on these rows [15]_. They
        are the rows held out for early stopping; without these, the network is first trained three
        times on two thirds of the rows, which triples the cost. "auto" does so for 60 to 2,000
        rows. Not with `alignment`.
    class_weight : "balanced", dict or None, default=None
        Weight of each class in the loss, as in scikit-learn.
    sampler : "balanced" or None, default=None
        Draw rows with replacement so that all classes are equally frequent.
    augment : {"light", "strong"}, callable or None, default=None
        Random changes to training images or series, seeded like all else. For images "light":
        crops of at least 70 % and mirror images; "strong": also one random distortion of shape or
        colour [4]_ and an erased patch. Both mirror images: for digits or text pass a transform
        that does not. Or a transform of torchvision (v2), albumentations or kornia, or a function
        of an image. For series "light": windows of at least 90 % of the steps, stretched to all of
        them [16]_, with scale and noise [17]_; "strong": windows of at least 70 %, a part of which
        is slowed down or sped up [16]_, and more of both. Or a function of an array (length,
        channels).
    augment_input : {"auto", "tensor", "array", "pil"}, default="auto"
        What a function as `augment`, or a transform of torchvision, is given and returns: a tensor
        (channels, height, width), an array (height, width, channels), or a PIL image, of 8 bits.
        Pixels are uint8, or floats within [0, 1] where X holds such. "auto": a tensor; of series
        an array; what the transforms of albumentations and kornia take.
    task : {"auto", "classification", "regression"}, default="auto"
        Task of a transformer: "auto" treats whole numbers of any dtype as classes, and other
        numbers as regression. Classifiers and regressors ignore it.
    loss : {"cross-entropy", "logit-adjusted", "focal"}, default="cross-entropy"
        Loss of classes and labels; numbers have the squared error. "logit-adjusted": the logarithm
        of each class's share of the training rows is added to its score in training only, so that
        the scores that are learned are those for classes of equal shares [21]_. `sample_weight`,
        `class_weight` and `sampler` change the shares, and with balanced ones nothing is left to
        adjust. "focal": rows that are predicted well count for less [22]_; `class_weight` takes the
        place of its alpha. Its probabilities are too close to each other.
    focal_gamma : float, default=2.0
        Exponent of (1 - p) in the focal loss, where p is the probability of the true class. With 0
        it is the cross entropy.
    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes.
    mixup : float, default=0.0
        Blend each row and its label with another one; the share is drawn from Beta(mixup, mixup)
        [5]_. With a cached trunk its activations are blended [6]_, and of texts and sequences,
        whose lengths differ, the features [18]_.
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
    batch_norm : {"auto", "frozen", "update"}, default="auto"
        Whether batch norm in the trained stages keeps the statistics of the source data, or
        updates them by the batches. "auto" updates them if a batch has at least 256 values of each
        channel (rows times positions in the smallest maps), all rows have 2,000, there are at least
        100 steps, and neither `penalty` nor `alignment` is set. In frozen stages batch norm never
        changes.
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
    checkpoint : str, Path or None, default=None
        Folder for the state of a training that may be killed. It is written after each epoch, and
        every minute within one; a `fit` with the same data, parameters and source network goes on
        from it, to the same result. A training that comes to its end removes its file. Several
        trainings, as in a search, may share a folder. Callbacks of your own begin anew, unless they
        have the methods ``state_dict`` and ``load_state_dict``.
    precision : {"float32", "bfloat16"}, default="float32"
        Type of numbers in which the trained part of the network computes (torch's autocast).
        Weights, head, loss and the features after the training stay float32.
    accumulate : int, default=1
        Number of batches whose gradients make a step, which then has ``accumulate * batch_size``
        rows at the memory of one batch. The step is that of the large batch, apart from what
        relates the rows of a batch: ``batch_norm="update"``, the penalties "bss" and "rkd", and the
        alignments "coral" and "mmd" see one batch at a time.
    recompute_activations : bool, default=False
        Keep the activations between stages only, and compute those inside a stage again in the
        backward pass [26]_: the same gradients with less memory, at the time of one more forward
        pass. Not for recurrent networks.
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
    .. [15] C. Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.
    .. [16] A. Le Guennec, S. Malinowski and R. Tavenard, "Data augmentation for time series
       classification using convolutional neural networks", ECML/PKDD workshop AALTD, 2016.
    .. [17] T. T. Um et al., "Data augmentation of wearable sensor data for Parkinson's disease
       monitoring using convolutional neural networks", ICMI 2017.
    .. [18] H. Guo, Y. Mao and R. Zhang, "Augmenting data with mixup for sentence classification:
       an empirical study", 2019: senMixup.
    .. [19] P. Izmailov et al., "Averaging weights leads to wider optima and better
       generalization", UAI 2018.
    .. [20] M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, equation 1.
    .. [21] A. K. Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 10
       with tau = 1.
    .. [22] T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 4.
    .. [23] E. Ben Zaken, Y. Goldberg and S. Ravfogel, "BitFit: simple parameter-efficient
       fine-tuning for transformer-based masked language-models", ACL 2022.
    .. [24] J. Frankle, D. J. Schwab and A. S. Morcos, "Training BatchNorm and only BatchNorm", ICLR
       2021.
    .. [25] E. J. Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022,
       equation 3, with alpha equal to the rank.
    .. [26] T. Chen et al., "Training deep nets with sublinear memory cost", 2016.
    .. [27] L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section
       3.3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTune, PretrainedCNNFeatures
    >>> digits = load_digits()
    >>> images, labels = digits.images[:60] / 16, digits.target[:60]
    >>> features = PretrainedCNNFeatures(
    ...     image_size=32, strategy=FineTune(unfreeze=1, epochs=2, guard=False, random_state=0)
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
        tune: str = "all",
        rank: int = 8,
        gradual: int | None = None,
        learning_rate: float | str | None = None,
        layer_decay: float = 1.0,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        schedule: str = "cosine",
        warmup_epochs: float = 1,
        epochs: int | None = None,
        min_steps: int = 100,
        batch_size: int = 64,
        weight_decay: float = 0.01,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        patience: int = 5,
        average: str | None = None,
        interpolate: float | str | None = None,
        guard: bool | str = "auto",
        class_weight: str | dict[Any, float] | None = None,
        sampler: str | None = None,
        augment: str | Callable[..., Any] | None = None,
        augment_input: str = "auto",
        task: str = "auto",
        loss: str = "cross-entropy",
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        penalty: str | None = None,
        penalty_weight: float | None = None,
        alignment: str | None = None,
        alignment_weight: float = 1.0,
        batch_norm: str = "auto",
        head_init: str = "probe",
        gradient_clip: float | None = 1.0,
        callbacks: list[Any] | None = None,
        scoring: Any = None,
        cache_trunk: bool = True,
        checkpoint: str | os.PathLike[str] | None = None,
        precision: str = "float32",
        accumulate: int = 1,
        recompute_activations: bool = False,
        random_state: Seed = None,
    ) -> None:
        self.unfreeze = unfreeze
        self.tune = tune
        self.rank = rank
        self.gradual = gradual
        self.learning_rate = learning_rate
        self.layer_decay = layer_decay
        self.optimizer = optimizer
        self.schedule = schedule
        self.warmup_epochs = warmup_epochs
        self.epochs = epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.average = average
        self.interpolate = interpolate
        self.guard = guard
        self.class_weight = class_weight
        self.sampler = sampler
        self.augment = augment
        self.augment_input = augment_input
        self.task = task
        self.loss = loss
        self.focal_gamma = focal_gamma
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
        self.checkpoint = checkpoint
        self.precision = precision
        self.accumulate = accumulate
        self.recompute_activations = recompute_activations
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name.

        Parameters
        ----------
        deep : bool, default=True
            Ignored, as no parameter is an estimator.

        Returns
        -------
        dict
        """
        # Transforms of albumentations have a get_params that means another thing.
        return super().get_params(deep=False)

    def __sklearn_clone__(self) -> Self:
        # A clone has callbacks of its own, but callbacks may hold what cannot be copied.
        plain = copy.copy(self)
        plain.augment = plain.callbacks = None
        other: Self = super(FineTune, plain).__sklearn_clone__()
        other.augment = copy.deepcopy(self.augment)
        other.callbacks = copied_callbacks(self.callbacks)
        return other


def with_rate(strategy: FineTune, rate: float) -> FineTune:
    """A strategy with another learning rate, and all else shared."""
    other = copy.copy(strategy)
    other.learning_rate = rate
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
    for name in ("batch_size", "patience", "min_steps", "accumulate"):
        check_scalar(getattr(strategy, name), name, numbers.Integral, min_val=1)
    for name in ("epochs", "gradual"):
        if getattr(strategy, name) is not None:
            check_scalar(getattr(strategy, name), name, numbers.Integral, min_val=1)
    check_scalar(strategy.rank, "rank", numbers.Integral, min_val=1)
    if strategy.tune == "lora" and strategy.penalty == "l2-sp":
        raise ValueError(
            "penalty='l2-sp' pulls weights, and tune='lora' trains factors of their change, which "
            "weight_decay pulls to zero; set penalty=None"
        )
    for name, low, high, ends in _RANGES:
        value = getattr(strategy, name)
        if value is None and name in ("learning_rate", "gradient_clip", "penalty_weight"):
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
    if strategy.interpolate is not None and not is_chosen(strategy.interpolate):
        check_alpha(strategy.interpolate, "interpolate", also=" or None or 'auto'")
    _check_callbacks(strategy.callbacks)
    folder = strategy.checkpoint
    if not isinstance(folder, str | os.PathLike | None) or folder == "":
        raise ValueError(f"checkpoint must be None or the path of a folder, got {folder!r}")
    scorers_of(strategy.scoring)
    check_random_state(strategy.random_state)


def is_chosen(interpolate: Any) -> bool:
    """Whether held-out rows are to choose the point between source and tuned weights."""
    return isinstance(interpolate, str) and interpolate == "auto"


def check_alpha(value: Any, name: str, also: str = "") -> None:
    """Refuse anything but a number from 0 (source) to 1 (tuned).

    Raises
    ------
    ValueError
        It is something else.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if not is_number or not 0 <= value <= 1:
        raise ValueError(
            f"{name} must be a number from 0, the source network, to 1, the tuned one,{also} got "
            f"{value!r}"
        )


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
    "tune": TUNES,
    "schedule": SCHEDULES,
    "early_stopping": (True, False, "auto"),
    "average": (None, *AVERAGES),
    "guard": (True, False, "auto"),
    "sampler": (None, "balanced"),
    "augment_input": ("auto", "tensor", "array", "pil"),
    "task": ("auto", "classification", "regression"),
    "loss": LOSSES,
    "penalty": (None, *PENALTIES),
    "alignment": (None, *ALIGNMENTS),
    "batch_norm": ("auto", "frozen", "update"),
    "head_init": ("probe", "random"),
    "cache_trunk": (True, False),
    "precision": ("float32", "bfloat16"),
    "recompute_activations": (True, False),
}

_RANGES = (
    ("learning_rate", 0, None, "neither"),
    ("layer_decay", 0, 1, "right"),
    ("warmup_epochs", 0, None, "both"),
    ("weight_decay", 0, None, "both"),
    ("validation_fraction", 0, 1, "neither"),
    ("focal_gamma", 0, None, "both"),
    ("label_smoothing", 0, 1, "left"),
    ("mixup", 0, None, "both"),
    ("penalty_weight", 0, None, "both"),
    ("alignment_weight", 0, None, "both"),
    ("gradient_clip", 0, None, "neither"),
)
