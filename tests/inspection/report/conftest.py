"""One report of files with hostile names, that several modules look at."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedCNNFeatures
from sktransfer.inspection import TransferReport
from tests.helpers.reports import BROKEN, NAMES, SCRIPT, Tables


@pytest.fixture(scope="session")
def folder(digits, tmp_path_factory):
    """A hundred digits as files, one of them broken, with hostile names of classes."""
    X, y = digits
    root = tmp_path_factory.mktemp("digits")
    paths = []
    for i in range(100):
        paths.append(str(root / f"{i}.png"))
        Image.fromarray((255 * X[i + 60]).astype(np.uint8)).save(paths[-1])
    paths.append(str(root / BROKEN))
    Path(paths[-1]).write_bytes(b"broken")
    return paths, NAMES[np.append(y[60:160], 0)]


@pytest.fixture(scope="session")
def search(digits):
    X, y = digits
    pipeline = make_pipeline(
        PretrainedCNNFeatures(engine="torch", image_size=32), StandardScaler(), LogisticRegression()
    )
    grid = {"pretrainedcnnfeatures__layer": ["blocks.0", "blocks.2"]}
    return GridSearchCV(pipeline, grid, cv=2).fit(list(X[:60]), NAMES[y[:60]])


@pytest.fixture(scope="session")
def report(digits, folder, search):
    paths, labels = folder
    X_train, y_train = list(digits[0][:60]), NAMES[digits[1][:60]]
    made = TransferReport(
        search, paths, labels, X_train=X_train, y_train=y_train, title=f"Digits {SCRIPT}"
    )
    made.to_html()
    return made


@pytest.fixture(scope="session")
def tables(report):
    return Tables(report.to_html())


@pytest.fixture(scope="session")
def predicted(folder, search):
    paths, labels = folder
    return labels[:100], search.predict(paths[:100]), search.predict_proba(paths[:100])
