"""Texts that SciPy carries."""

from collections import Counter

import numpy as np

from sktransfer.datasets import load_scipy_summaries


def test_every_topic_has_texts_enough_to_learn_from():
    texts = load_scipy_summaries()
    counts = Counter(np.array(texts.target_names)[texts.target])
    assert set(counts) == set(texts.target_names)
    assert min(counts.values()) >= 25


def test_texts_are_distinct_lines_in_step_with_classes_and_names():
    texts = load_scipy_summaries()
    assert len(texts.data) == len(set(texts.data)) == len(texts.target) == len(texts.names)
    assert all(text == " ".join(text.split()) for text in texts.data)
    for name, target in zip(texts.names, texts.target, strict=True):
        assert name.split(".")[1] == texts.target_names[target]


def test_signatures_are_not_taken_for_sentences():
    texts = load_scipy_summaries()
    by_name = dict(zip(texts.names, texts.data, strict=True))
    assert by_name["scipy.special.gamma"] == "gamma function."
