"""A report of a transfer as one HTML file."""

import datetime
import numbers
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sklearn.utils import check_scalar
from tqdm.auto import tqdm

import sktransfer
from sktransfer._files import replacing
from sktransfer.inspection.report.blocks import Findings, NotApplicable, Section, SectionContent
from sktransfer.inspection.report.evidence import Evidence
from sktransfer.inspection.report.rendering import render
from sktransfer.inspection.report.sections import data, features, predictions, provenance
from sktransfer.inspection.report.summary import conclusions_of, summary_of, tiles_of
from sktransfer.inspection.report.text import plain
from sktransfer.inspection.report.warning_summary import summarising_warnings

_SECTIONS: tuple[tuple[str, str, str, Callable[[Evidence], SectionContent]], ...] = (
    ("data", "Data", "What the report is about.", data.data),
    ("shift", "Domain shift", "Whether two domains differ, and what to try.", data.shift),
    ("scores", "Scores", "How good the predictions are.", predictions.scores),
    ("confusion", "Confusion", "Which class is taken for which.", predictions.confusion),
    ("errors", "Worst errors", "Rows to look at with your own eyes.", predictions.errors),
    ("strategies", "Strategies", "What was searched over.", features.strategies),
    ("layers", "Layers", "What each layer of the network is worth here.", features.layers),
    ("tuning", "Fine-tuning", "How the training went.", features.tuning),
    ("embedding", "Embedding", "Features on a plane.", features.embedding),
    ("throughput", "Throughput", "How fast it predicts.", provenance.throughput),
    ("failed", "Failed rows", "What could not be read, and why.", data.failed),
    ("weights", "Weights and licences", "What was transferred.", provenance.weights),
    ("reproduce", "Reproduce", "Parameters and versions.", provenance.reproduce),
    ("limits", "What this cannot tell", "Before you decide on it.", provenance.limits),
)


class TransferReport:
    """A report on a transfer, as one HTML file to read, send and keep.

    Data and shift, scores with intervals, confusion, the worst errors to look at, the strategies
    of a search, a probe of the layers, an embedding, throughput, rows that could not be read,
    weights with their licences, versions. The file needs no network and runs no script.

    Predictions are of rows that the predicting model was not fitted to:

    - estimator not fitted: clones are cross-validated on X and y; a search is cross-validated with
      its search (nested), so that what it chose does not flatter it;
    - estimator not fitted, and `X_train` given: a clone is fitted there, and predicts X;
    - estimator fitted: it predicts X, **which must be rows that it was not fitted to**. With
      `X_train` the report looks for rows that stand in both.

    Parameters
    ----------
    estimator : classifier or regressor
        Often a pipeline that begins with `PretrainedCNNFeatures`, `RNNSequenceFeatures` or
        `PretrainedTextFeatures`, a `FineTunedClassifier` or `FineTunedRegressor`, or a search such
        as GridSearchCV over one of these. Any other of scikit-learn's will do as well.
    X : as the estimator takes it
        n samples. Those that cannot be read are listed and left out.
    y : array-like of shape (n,) or (n, n_outputs)
        Rows of NaN or None have no label.
    X_train : as the estimator takes it, or None, default=None
        Training rows: to be fitted to, or to be compared with X.
    y_train : array-like or None, default=None
        Their labels; an estimator that is not fitted needs them.
    cv : int, splitter, iterable or None, default=None
        With a value, clones of the estimator are cross-validated on X whether it is fitted or not.
        None is 5 folds where there is something to cross-validate. With None or a number, folds
        keep shares of the classes, and copies of a row are never on both sides.
    groups : array-like of shape (n,) or None, default=None
        Rows that belong together, such as those of one patient; they are kept in one fold.
    sample_domain : array-like of shape (n,) or None, default=None
        Positive for source rows, negative for target rows. Their shift is described, and scores
        are given for both; cross-validation holds out target rows only, if these have labels. It
        is passed on to steps that know domains.
    target_names : sequence of str or None, default=None
        What classes are called, in sorted order, or by number where classes are 0, 1, 2...
    title : str, default="Transfer report"
    sections : sequence of str or None, default=None
        What to report on: "data", "shift", "scores", "confusion", "errors", "strategies", "layers",
        "tuning", "embedding", "throughput", "failed", "weights", "reproduce", "limits". None is
        all of these. What is left out costs nothing.
    embedding : {"pca", "tsne", "umap"}, default="pca"
        Plane for the features; see `EmbeddingDisplay`.
    n_errors : int, default=12
        Worst errors to show.
    max_rows : int, default=1000
        Rows that are drawn, probed and compared; of more a sample is taken. All are predicted.
    random_state : int, RandomState instance or None, default=0
        Of folds, samples and resampling. Estimators have their own.
    verbose : bool, default=False
        Show a progress bar over the sections.

    See Also
    --------
    LayerProbeDisplay, EmbeddingDisplay, ShiftDisplay : The figures of the report.
    sktransfer.strategy_table : The table of a search as text.

    Notes
    -----
    Frozen networks without a `cache` of their own get a temporary one, so that each row goes
    through them once, whatever is fitted, probed and drawn; throughput alone is measured without.

    A section that fails shows its error in its place, with a warning; the others do not suffer.
    Without matplotlib, sections with figures are left out. Warnings of all the work come at its
    end, one of each kind.
    Intervals are Wilson's [1]_ for shares of rows, and percentiles of 1,000 bootstrap samples of
    rows [2]_ for other scores.

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
       JASA 22(158), 1927.
    .. [2] B. Efron and R. Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import PretrainedCNNFeatures
    >>> from sktransfer.inspection import TransferReport
    >>> digits = load_digits()
    >>> pipeline = make_pipeline(
    ...     PretrainedCNNFeatures(layer="blocks.3", image_size=32),
    ...     LogisticRegression(max_iter=1000),
    ... )
    >>> pipeline = pipeline.fit(digits.images[:100] / 16, digits.target[:100])
    >>> report = TransferReport(pipeline, digits.images[100:150] / 16, digits.target[100:150])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report.to_html(Path(folder, "report.html"))
    >>> page.startswith("<!doctype html>")
    True
    >>> summary = report.summary()
    >>> summary["protocol"], summary["rows"], summary["scores"]["accuracy"]["value"] > 0.8
    ('fitted estimator', 50, True)
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        X_train: Any = None,
        y_train: Any = None,
        cv: Any = None,
        groups: Any = None,
        sample_domain: Any = None,
        target_names: Any = None,
        title: str = "Transfer report",
        sections: Sequence[str] | None = None,
        embedding: Any = "pca",
        n_errors: int = 12,
        max_rows: int = 1000,
        random_state: Any = 0,
        verbose: bool = False,
    ) -> None:
        self.estimator = estimator
        self.X = X
        self.y = y
        self.X_train = X_train
        self.y_train = y_train
        self.cv = cv
        self.groups = groups
        self.sample_domain = sample_domain
        self.target_names = target_names
        self.title = title
        self.sections = sections
        self.embedding = embedding
        self.n_errors = n_errors
        self.max_rows = max_rows
        self.random_state = random_state
        self.verbose = verbose

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write the report.

        The work is done when it is first called; another call writes the same again.

        Parameters
        ----------
        path : str, Path or None, default=None
            File to write, or to replace once the page is complete.

        Returns
        -------
        str
            The page.

        Raises
        ------
        TypeError, ValueError
            The estimator does not predict, or the arguments do not go together.
        OSError
            The file cannot be written; this is found out before the work.
        """
        if path is None:
            return self._computed()[0]
        with replacing(Path(path).expanduser()) as (file,):  # before the work
            page = self._computed()[0]
            file.write_text(page, encoding="utf-8")
        return page

    def summary(self) -> dict[str, Any]:
        """The numbers of the report, as plain data that JSON can hold.

        Returns
        -------
        dict
            "task", "protocol", "rows", "predicted", "without_label", "classes", "unseen_classes"
            (of X, and not among those that the model was fitted to), "scores" (each with "value",
            "interval" and "best_constant"), "failed", "copies", "seen_in_training", "shift",
            "best_layer", "rows_per_second", "networks", and "sections_failed".
        """
        return self._computed()[1]

    def _computed(self) -> tuple[str, dict[str, Any]]:
        if not hasattr(self, "_results"):
            self._check()
            with (
                summarising_warnings(stacklevel=3),  # of whoever called to_html or summary
                tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as store,
            ):
                self._results = self._compute(Evidence(self, store))
        return self._results

    def _check(self) -> None:
        check_scalar(self.n_errors, "n_errors", numbers.Integral, min_val=0)
        check_scalar(self.max_rows, "max_rows", numbers.Integral, min_val=50)
        known = [name for name, *_ in _SECTIONS]
        wanted = known if self.sections is None else self.sections
        if isinstance(wanted, str) or not set(wanted) <= set(known):
            raise ValueError(f"sections must be a list of some of {known}, got {self.sections!r}")
        if not isinstance(self.title, str):
            raise TypeError(f"title must be a str, got {self.title!r}")
        if self.cv is not None and self.X_train is not None:
            raise ValueError(
                "cv cross-validates on X, and X_train is there to be fitted to or compared with X; "
                "give one of them"
            )
        if self.X_train is None and self.y_train is not None:
            raise ValueError("y_train needs X_train, got None")

    def _compute(self, evidence: Evidence) -> tuple[str, dict[str, Any]]:
        sections: list[Section] = []
        left_out: list[tuple[str, str]] = []
        findings: Findings = {}
        wanted = [each for each in _SECTIONS if self.sections is None or each[0] in self.sections]
        for name, title, lead, make in tqdm(
            wanted, desc="TransferReport", unit="section", disable=not self.verbose
        ):
            try:
                blocks, found = make(evidence)
                sections.append(Section(name, title, lead, blocks))
                findings.update(found)
            except NotApplicable as reason:
                left_out.append((title, str(reason)))
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                sections.append(Section(name, title, lead, [], plain(text, 2000)))
                warnings.warn(
                    f"the section {title!r} of the report failed and shows its error instead: "
                    f"{text}",
                    stacklevel=2,
                )
        made = datetime.datetime.now(datetime.UTC).astimezone()
        page = render(
            title=plain(self.title, 200),
            subtitle=evidence.name,
            tiles=tiles_of(evidence, findings),
            findings=[*conclusions_of(evidence, findings)],
            sections=sections,
            left_out=left_out,
            made=made.strftime("%Y-%m-%d %H:%M"),
            version=sktransfer.__version__,
        )
        summary = summary_of(evidence, findings)
        summary["sections_failed"] = [each.name for each in sections if each.error]
        return page, summary
