"""Checks of the parameters of the sequence transformer, and the network that they ask for."""

import numbers
from typing import Any, NamedTuple

import torch
from sklearn.utils import check_random_state, check_scalar
from torch import nn

from sktransfer._validation import check_flag, check_options, names_in, pooling_names
from sktransfer.backbones.custom import custom_name, load_custom
from sktransfer.backbones.loaded_network import sha256_of
from sktransfer.backbones.recurrent import SHIPPED, load_recurrent
from sktransfer.backbones.weights import check_weights
from sktransfer.networks.modules import frozen
from sktransfer.networks.seeding import seeded
from sktransfer.sequences.encoding import recurrent_part
from sktransfer.sequences.pooling import POOLINGS
from sktransfer.sequences.pretraining.strategy import resolve_pretraining
from sktransfer.sequences.recurrent import EMBEDDING_SIZE, KINDS, RecurrentNetwork, Shape
from sktransfer.sequences.source import Sequences
from sktransfer.sequences.views import KINDS as VIEW_KINDS
from sktransfer.sequences.views import View, usual_views

USUAL_POOLINGS = tuple(pooling for pooling in POOLINGS if pooling != "attention")
_DEFAULT_HIDDEN_SIZE = 64
_SHAPE_PARAMETERS = ("hidden_size", "num_layers", "bidirectional")


class Loaded(NamedTuple):
    """A network, and the SHA-256 of its weights."""

    module: nn.Module
    sha256: str


def check_parameters(estimator: Any) -> None:
    """Refuse, by name, a parameter that no network could make sense of."""
    check_options(
        estimator,
        {
            "channels": ("last", "first"),
            "missing": ("interpolate", "error"),
            "on_error": ("raise", "nan"),
            "precision": ("float32", "bfloat16"),
        },
    )
    if estimator.append_stats != "auto":
        check_flag(estimator, "append_stats")
    _check_count(estimator, "n_thresholds")
    for name in ("hidden_size", "num_layers", "max_length", "vocabulary_size", "output_dim"):
        if getattr(estimator, name) is not None:
            _check_count(estimator, name)
    if estimator.bidirectional is not None:
        check_flag(estimator, "bidirectional")
    if isinstance(estimator.backbone, str):
        if estimator.backbone not in KINDS:
            raise ValueError(
                f"backbone must be one of {tuple(KINDS)}, an nn.Module class, a function that "
                f"returns an nn.Module, or an nn.Module; got {estimator.backbone!r}"
            )
    elif not callable(estimator.backbone):
        raise TypeError(
            f"backbone must be one of {tuple(KINDS)}, an nn.Module class, a function that returns "
            f"an nn.Module, or an nn.Module; got {estimator.backbone!r}"
        )
    else:
        for name in _SHAPE_PARAMETERS:
            if getattr(estimator, name) is not None:
                raise ValueError(
                    f"{name} is for backbones {tuple(KINDS)}, and your own network has its own; "
                    f"got {name}={getattr(estimator, name)!r}: build the network with it"
                )
    prefix = estimator.weights_prefix
    if prefix is not None and not isinstance(prefix, str):
        raise ValueError(f"weights_prefix must be None or a str, got {prefix!r}")
    resolve_pretraining(estimator.pretraining)


def _check_count(estimator: Any, name: str) -> None:
    value = getattr(estimator, name)
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    check_scalar(value, name, numbers.Integral, min_val=1)


def resolve_views(estimator: Any, sequences: Sequences) -> tuple[View, ...]:
    """The views that `views` asks for of the training sequences."""
    asked = estimator.views
    auto = isinstance(asked, str) and asked == "auto"
    if sequences.is_tokens:
        if not auto and asked not in ("raw", ("raw",), ["raw"]):
            raise ValueError(
                f"views={asked!r} is for time series; tokens and texts have no scale: leave "
                "views='auto'"
            )
        return (View("raw"),)
    if auto and isinstance(estimator.backbone, str):
        return usual_views(sequences.lengths)
    if auto:
        return (View("raw"),)
    views = [View.named(name) for name in names_in(asked)]
    found = tuple(view for view in views if view is not None)
    if not views or len(found) < len(views):
        raise ValueError(
            f"views must be 'auto', one of {VIEW_KINDS}, one of these followed by the number of "
            "steps to average, as in 'z4', or several as a tuple or joined by '+', got "
            f"{asked!r}"
        )
    _check_distinct("views", asked, found)
    return found


def _check_distinct(name: str, value: Any, found: tuple[Any, ...]) -> None:
    if len(set(found)) < len(found):
        raise ValueError(f"{name} names the same twice: {value!r}")


def resolve_poolings(
    estimator: Any, module: nn.Module, layers: tuple[int | str, ...]
) -> tuple[str, ...]:
    """The poolings that `pooling` asks for."""
    if isinstance(estimator.pooling, str) and estimator.pooling == "auto":
        return USUAL_POOLINGS if isinstance(estimator.backbone, str) else ("last",)
    poolings = pooling_names(estimator.pooling)
    if not poolings or not set(poolings) <= set(POOLINGS):
        raise ValueError(
            f"pooling must be 'auto', one of {POOLINGS}, or several as a tuple or joined by '+', "
            f"got {estimator.pooling!r}"
        )
    _check_distinct("pooling", estimator.pooling, poolings)
    if "attention" not in poolings:
        return poolings
    if not isinstance(module, RecurrentNetwork) or module.attention is None:
        raise ValueError(
            "pooling='attention' needs a network that has learned which steps matter; set "
            "pretraining='contrastive', or weights that were trained so"
        )
    if layers != (module.shape.num_layers - 1,):
        raise ValueError(
            f"pooling='attention' is for the last layer alone, got layer={estimator.layer!r}"
        )
    return poolings


def every_layer_of(module: nn.Module) -> tuple[int, ...]:
    """All stacked layers of a recurrent network, or -1, the output of another module."""
    rnn = recurrent_part(module)
    return (-1,) if rnn is None else tuple(range(rnn.num_layers))


def resolve_layers(wanted: Any, module: nn.Module) -> tuple[int | str, ...]:
    """Numbers of a recurrent network's layers, or names of another module's."""
    rnn = recurrent_part(module)
    asked = wanted if isinstance(wanted, tuple | list) else (wanted,)
    resolved: list[int | str] = []
    for layer in asked:
        if rnn is not None:
            n_layers = rnn.num_layers
            whole = isinstance(layer, numbers.Integral) and not isinstance(layer, bool)
            if not whole or not -n_layers <= layer < n_layers:
                raise ValueError(
                    f"layer must be an integer from {-n_layers} to {n_layers - 1}, as the network "
                    f"has {n_layers} layer(s), or a tuple of these; got {wanted!r}"
                )
            resolved.append(int(layer) % n_layers)
        else:
            names = [name for name, _ in module.named_modules() if name]
            if layer != -1 and layer not in names:
                raise ValueError(
                    f"layer must be -1 (what the network returns) or one of {names[:20]}, got "
                    f"{layer!r}"
                )
            resolved.append(layer)
    if not resolved or len(set(resolved)) < len(resolved):
        raise ValueError(f"layer must name each layer once, and at least one; got {asked!r}")
    return tuple(resolved)


def load_network(estimator: Any, vocabulary_size: int | None) -> Loaded:
    """The network that the parameters ask for, in evaluation mode on the CPU."""
    seed = int(check_random_state(estimator.random_state).randint(2**31 - 1))
    if not isinstance(estimator.backbone, str):
        with seeded(seed), torch.no_grad():
            module, sha256 = load_custom(
                estimator.backbone, estimator.weights, prefix=estimator.weights_prefix
            )
        check_weights(module.float(), custom_name(estimator.backbone))
    else:
        module, sha256 = _named(estimator, vocabulary_size, seed)
    module = frozen(module).float()
    return Loaded(module, sha256 or sha256_of(module))


def _named(
    estimator: Any, vocabulary_size: int | None, seed: int
) -> tuple[RecurrentNetwork, str | None]:
    weights, kind = estimator.weights, estimator.backbone
    by_default = isinstance(weights, str) and weights == "default"
    at_random = isinstance(weights, str) and weights == "random"
    if at_random or (by_default and vocabulary_size is not None):
        shape = Shape(
            kind,
            1 if vocabulary_size is None else EMBEDDING_SIZE,
            estimator.hidden_size or _DEFAULT_HIDDEN_SIZE,
            estimator.num_layers or 1,
            bool(estimator.bidirectional),
            vocabulary_size=vocabulary_size,
        )
        return RecurrentNetwork.initialised(shape, seed), None
    if by_default:
        if kind not in SHIPPED:
            raise ValueError(
                f"backbone={kind!r} has no default weights; set weights='random', or backbone to "
                f"one of {tuple(SHIPPED)}"
            )
        network, sha256 = load_recurrent(SHIPPED[kind])
    else:
        network, sha256 = load_recurrent(weights, estimator.weights_prefix, vocabulary_size)
    _check_shape(estimator, network.shape, vocabulary_size)
    return network, sha256


def _check_shape(estimator: Any, shape: Shape, vocabulary_size: int | None) -> None:
    """See that a loaded network is the one that the parameters describe."""
    asked = {name: getattr(estimator, name) for name in _SHAPE_PARAMETERS}
    asked["kind"] = estimator.backbone
    differing = {
        name: value
        for name, value in asked.items()
        if value is not None and value != getattr(shape, name)
    }
    what = f"weights={str(estimator.weights)!r}"
    if differing:
        listed = " and ".join(
            f"{'backbone' if name == 'kind' else name}={getattr(shape, name)!r}, not {value!r}"
            for name, value in differing.items()
        )
        raise ValueError(f"{what} have {listed}; set it so, or set weights='random'")
    if shape.vocabulary_size != vocabulary_size:
        raise ValueError(
            f"{what} are for {content_of(shape.vocabulary_size)}, and X holds "
            f"{content_of(vocabulary_size)}"
        )


def reads_all_channels(
    module: nn.Module, channels: str, n_channels: int, vocabulary_size: int | None
) -> bool:
    """Whether a network reads all channels of a series at once, else one by one."""
    rnn = recurrent_part(module)
    if vocabulary_size is not None and rnn is not None and rnn is module:
        raise ValueError(
            f"backbone is a bare {type(module).__name__}, which reads numbers, and X holds "
            f"{content_of(vocabulary_size)}; put an nn.Embedding before it in your own module"
        )
    if vocabulary_size is not None or rnn is None:
        return True
    if rnn.input_size == 1:
        return False
    if rnn.input_size != n_channels:
        raise ValueError(
            f"the backbone reads {rnn.input_size} channels, and X has {n_channels}; pass a network "
            "of that input size, or of 1, which reads channels one by one "
            f"(channels={channels!r})"
        )
    return True


def content_of(vocabulary_size: int | None) -> str:
    """What a vocabulary, or none, says of X."""
    return "time series" if vocabulary_size is None else f"tokens below {vocabulary_size}"
