"""Reports of small networks, and what their pages hold."""

import re
from html.parser import HTMLParser

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedCNNFeatures
from sktransfer.inspection import TransferReport
from tests.helpers.networks import SmallCNN

SCRIPT = "<script>alert(1)</script>"

QUOTES = "\"'><img src=x onerror=alert(2)>"

BROKEN = "<img src=x onerror=alert(3)>.png"

NAMES = np.array([SCRIPT, QUOTES, "$\\frac{1}$", "_four", *"456789"])


class Tables(HTMLParser):
    """The cells of all tables of a page, by caption; and the names below the cards."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.cards, self._text = {}, [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag in ("caption", "th", "td") or ("class", "name") in attributes:
            self._text = ""
        if tag == "tr":
            self._row = []

    def handle_data(self, data):
        if self._text is not None:
            self._text += data

    def handle_endtag(self, tag):
        if tag == "caption":
            self._rows = self.tables.setdefault(self._text.strip(), [])
        elif tag in ("th", "td"):
            self._row.append(self._text.strip())
        elif tag == "tr":
            self._rows.append(self._row)
        elif tag == "p" and self._text is not None:
            self.cards.append(self._text.strip())
        if tag in ("caption", "th", "td", "p"):
            self._text = None

    def table(self, beginning):
        return next(rows for name, rows in self.tables.items() if name.startswith(beginning))


def small_network(**parameters):
    """Fast, and bad enough to make errors."""
    return PretrainedCNNFeatures(
        SmallCNN, image_size=16, random_state=0, engine="torch", **parameters
    )


def small_pipeline(**parameters):
    return make_pipeline(small_network(**parameters), StandardScaler(), LogisticRegression(C=0.1))


def quiet(*arguments, **parameters):
    """A report of nothing but what a test looks at."""
    kept = ["data", "scores", "confusion", "errors", "failed", "weights", "limits"]
    return TransferReport(*arguments, **{"n_errors": 3, "sections": kept, **parameters})


def both(digits):
    return digits[0][:40], digits[1][:40] > 4


def in_short(made):
    section = made.to_html().split('<section id="summary"')[1].split("</section>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", section))
