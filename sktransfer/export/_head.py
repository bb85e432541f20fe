"""What scikit-learn does with features, as ONNX, and joined to a network."""

import warnings
from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline

from sktransfer.exceptions import ConversionError
from sktransfer.export._network import OPSET, cause
from sktransfer.finetuning.estimator import FineTuned

# What skl2onnx has to be told, so that it puts out an array. Not every converter takes both.
_OPTIONS: dict[str, tuple[dict[str, bool], ...]] = {
    "probabilities": ({"zipmap": False}, {}),
    "scores": ({"zipmap": False, "raw_scores": True}, {"raw_scores": True}),
}

_INPUT = "features"


def linear_head(estimator: FineTuned) -> Any:
    """The head of a fine-tuned network as scikit-learn has it."""
    if estimator._fitted_task == "multilabel":
        raise ValueError(
            f"{type(estimator).__name__} was fitted to several labels, which an ONNX classifier "
            "has no output for; export its features_ and apply coef_ and intercept_"
        )
    if estimator.test_time_augmentation is not None:
        raise ValueError(
            "an ONNX model sees each image once; set test_time_augmentation=None, got "
            f"{estimator.test_time_augmentation!r}"
        )
    coef, intercept = estimator.coef_, estimator.intercept_
    if estimator._fitted_task == "classification":
        if len(coef) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        return logistic(coef, intercept, estimator.classes_)
    head = LinearRegression()
    head.coef_, head.intercept_, head.n_features_in_ = coef, intercept, coef.shape[1]
    return head


def logistic(coef: np.ndarray, intercept: np.ndarray, classes: np.ndarray) -> LogisticRegression:
    """A logistic regression with these weights."""
    head = LogisticRegression()
    head.coef_, head.intercept_, head.classes_ = coef, intercept, classes
    head.n_features_in_ = coef.shape[1]
    return head


def head_model(tail: Pipeline, n_features: int, kind: str, outputs: tuple[str, ...]) -> Any:
    """The steps after the networks.

    Parameters
    ----------
    tail : Pipeline
    n_features : int
    kind, outputs : str, tuple of str
        What comes out: see `sktransfer.export._parts.Parts`.

    Raises
    ------
    ConversionError
        skl2onnx cannot write them.
    """
    name, last = tail.steps[-1]
    if isinstance(last, LinearDiscriminantAnalysis) and kind == "probabilities":
        # skl2onnx 1.20 gives two classes other probabilities, wrong by 0.1 and more.
        last = logistic(last.coef_, last.intercept_, last.classes_)
        tail = Pipeline([*tail.steps[:-1], (name, last)])
    tries = _OPTIONS.get(kind, ({},))
    for number, options in enumerate(tries):
        try:
            head = _converted(tail, n_features, options)
            break
        except Exception as error:  # of a step that it does not know, or that is too much for it
            if isinstance(error, NameError) and number + 1 < len(tries):
                continue  # an option that its converter does not know
            names = [type(step).__name__ for _, step in tail.steps]
            raise ConversionError(
                f"skl2onnx cannot write the steps {names} as ONNX: {cause(error)}. What it knows "
                "is listed by skl2onnx.supported_converters()"
            ) from error
    found = [each.name for each in head.graph.output]
    if len(found) != len(outputs):
        raise ConversionError(
            f"skl2onnx puts out {found} where {list(outputs)} are expected; end the pipeline with "
            "a classifier, a regressor or a transformer"
        )
    return head


def _converted(tail: Pipeline, n_features: int, options: dict[str, bool]) -> Any:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn on attributes that it reads
        model = convert_sklearn(
            tail,
            initial_types=[(_INPUT, FloatTensorType([None, n_features]))],
            options={id(tail.steps[-1][1]): options} if options else None,
            target_opset={"": OPSET, "ai.onnx.ml": 3},
        )
    if options:  # it states one column of scores where there are two
        columns = model.graph.output[-1].type.tensor_type.shape.dim[1]
        columns.dim_value = len(tail.classes_)
    return model


def joined(network: Any, head: Any, outputs: tuple[str, ...]) -> Any:
    """One model after the other, its outputs named."""
    import onnx

    # skl2onnx states the oldest version that has all it used, of what it wrote for the newest.
    network.ir_version = head.ir_version = max(network.ir_version, head.ir_version)
    for model in (network, head):
        versions = {each.domain: each.version for each in model.opset_import} | {"": OPSET}
        del model.opset_import[:]
        for domain, number in versions.items():
            model.opset_import.add(domain=domain, version=number)
    _rename(network.graph, {"features": "network/features"})
    head = onnx.compose.add_prefix(head, "head/")
    ends = [("network/features", f"head/{_INPUT}")]
    model = onnx.compose.merge_models(network, head, io_map=ends)
    names = [each.name for each in model.graph.output]
    _rename(model.graph, dict(zip(names, outputs, strict=True)))
    return model


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give values of a graph other names."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
