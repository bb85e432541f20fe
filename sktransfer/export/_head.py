"""Conversion of the steps after a network to ONNX, and their connection to the network."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline

from sktransfer.exceptions import ConversionError
from sktransfer.export._network import OPSET, cause
from sktransfer.finetuning.classifier import FineTunedClassifier
from sktransfer.finetuning.estimator import FineTuned

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

# Options with which skl2onnx returns an array, in the order to try: not every converter knows all.
_OPTIONS: dict[str, tuple[dict[str, bool], ...]] = {
    "probabilities": ({"zipmap": False}, {}),
    "scores": ({"zipmap": False, "raw_scores": True}, {"raw_scores": True}),
}

_INPUT = "features"


class BoundedRegression(LinearRegression):
    """A linear model whose predictions stay between two rows of bounds, (2, n_outputs)."""

    bounds_: np.ndarray

    def predict(self, X: Any) -> np.ndarray:
        """Predict numbers, (n, n_outputs)."""
        return np.clip(super().predict(X), *self.bounds_)


def linear_head(estimator: FineTuned) -> LogisticRegression | LinearRegression:
    """The head of a fine-tuned estimator as an equivalent linear model of scikit-learn."""
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
    if isinstance(estimator, FineTunedClassifier):
        intercept = intercept + estimator._prior_shift()
        if len(coef) == 2:  # scikit-learn has a single row for two classes
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        return logistic(coef, intercept, estimator.classes_)
    bounds = getattr(estimator, "prediction_bounds_", None)
    if bounds is None:  # from a file of an older version
        return _linear(LinearRegression(), coef, intercept)
    bounded = BoundedRegression()
    bounded.bounds_ = bounds
    return _linear(bounded, coef, intercept)


def _linear(head: LinearRegression, coef: np.ndarray, intercept: np.ndarray) -> LinearRegression:
    """A linear regression with these weights."""
    head.coef_, head.intercept_, head.n_features_in_ = coef, intercept, coef.shape[1]
    return head


def logistic(coef: np.ndarray, intercept: np.ndarray, classes: np.ndarray) -> LogisticRegression:
    """A logistic regression with these weights."""
    head = LogisticRegression()
    head.coef_, head.intercept_, head.classes_ = coef, intercept, classes
    head.n_features_in_ = coef.shape[1]
    return head


def head_model(
    tail: Pipeline, n_features: int, kind: str, outputs: tuple[str, ...]
) -> "ModelProto":
    """Convert the steps after the networks to ONNX."""
    name, last = tail.steps[-1]
    if isinstance(last, LinearDiscriminantAnalysis) and kind == "probabilities":
        # skl2onnx 1.20 converts LDA of two classes to probabilities that are wrong by 0.1 and more.
        last = logistic(last.coef_, last.intercept_, last.classes_)
        tail = Pipeline([*tail.steps[:-1], (name, last)])
    bounds = getattr(last, "bounds_", None) if isinstance(last, BoundedRegression) else None
    if bounds is not None:  # skl2onnx converts the exact classes that it knows
        last = _linear(LinearRegression(), last.coef_, last.intercept_)
        tail = Pipeline([*tail.steps[:-1], (name, last)])
    attempts = _OPTIONS.get(kind, ({},))
    for number, options in enumerate(attempts):
        try:
            head = _converted(tail, n_features, options)
            break
        except Exception as error:  # converters raise errors of many kinds
            if isinstance(error, NameError) and number + 1 < len(attempts):
                continue  # so skl2onnx rejects an option that the converter does not know
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
    if bounds is not None:
        _bound(head.graph, bounds)
    return head


def _bound(graph: "GraphProto", bounds: np.ndarray) -> None:
    """Clip the output of a graph, each column by its bounds, which ``Clip`` has one of for all."""
    from onnx import helper, numpy_helper

    output = graph.output[0].name
    unbounded = f"{output}/unbounded"
    for node in graph.node:
        node.output[:] = [unbounded if name == output else name for name in node.output]
    name = unbounded
    for operator, row in zip(("Max", "Min"), bounds, strict=True):
        bound = f"{output}/{operator}"
        graph.initializer.append(numpy_helper.from_array(row[None].astype(np.float32), bound))
        result = output if operator == "Min" else f"{output}/above"
        graph.node.append(helper.make_node(operator, [name, bound], [result]))
        name = result


def _converted(tail: Pipeline, n_features: int, options: dict[str, bool]) -> "ModelProto":
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skl2onnx reads deprecated attributes of scikit-learn
        model = convert_sklearn(
            tail,
            initial_types=[(_INPUT, FloatTensorType([None, n_features]))],
            options={id(tail.steps[-1][1]): options} if options else None,
            target_opset={"": OPSET, "ai.onnx.ml": 3},
        )
    if options:  # skl2onnx states one column of scores for two classes, but returns two
        columns = model.graph.output[-1].type.tensor_type.shape.dim[1]
        columns.dim_value = len(tail.classes_)
    return model


def joined(network: "ModelProto", head: "ModelProto", outputs: tuple[str, ...]) -> "ModelProto":
    """Feed the network's features to the head, and name the outputs."""
    import onnx

    # Models can be merged only if their versions are equal. skl2onnx states the oldest version
    # that has all operators of the model, though it wrote them as of the target version.
    network.ir_version = head.ir_version = max(network.ir_version, head.ir_version)
    for model in (network, head):
        versions = {each.domain: each.version for each in model.opset_import} | {"": OPSET}
        del model.opset_import[:]
        for domain, number in versions.items():
            model.opset_import.add(domain=domain, version=number)
    _rename(network.graph, {"features": "network/features"})
    head = onnx.compose.add_prefix(head, "head/")
    io_map = [("network/features", f"head/{_INPUT}")]
    model = onnx.compose.merge_models(network, head, io_map=io_map)
    names = [each.name for each in model.graph.output]
    _rename(model.graph, dict(zip(names, outputs, strict=True)))
    return model


def _rename(graph: "GraphProto", names: dict[str, str]) -> None:
    """Rename values of a graph."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
