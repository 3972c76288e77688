"""N-gram models: the sorted arrays say what a plain writing with dictionaries says, and what counting must say."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from minillama import data_path
from minillama.pretraining.ngram import NGram

TEXT = data_path("page.txt").read_text(encoding="utf-8").lower()
LETTERS = sorted(set(TEXT))
V = len(LETTERS) + 1  # 0 begins a document
DOCUMENTS = [[0, *(LETTERS.index(c) + 1 for c in line)] for line in TEXT.split("\n") if line.strip()]
TRAIN, HELD_OUT = DOCUMENTS[:-2], DOCUMENTS[-2:]


class Plain:
    """The same model from its formula, recursively, over dictionaries."""

    def __init__(self, order: int, documents, discount: float | None, vocab_size: int = V):
        self.order, self.vocab_size, self.after = (
            order,
            vocab_size,
            defaultdict(Counter),
        )  # context of any length to counts of the next token
        for document in documents:
            for t in range(1, len(document)):
                for k in range(1, order + 1):
                    if t - (k - 1) >= 0:
                        self.after[tuple(document[t - (k - 1) : t])][document[t]] += 1
        self.discounts = {}
        for k in range(1, order + 1):
            counts = [c for h, following in self.after.items() if len(h) == k - 1 for c in following.values()]
            estimate = counts.count(1) / max(1, counts.count(1) + 2 * counts.count(2))
            self.discounts[k] = discount if discount else min(0.9, max(0.1, estimate))

    def p(self, w: int, history: tuple, k: int | None = None) -> float:
        k = self.order if k is None else k
        if k == 0:
            return 1 / self.vocab_size
        lower = self.p(w, history, k - 1)
        h = history[len(history) - (k - 1) :]
        if len(history) < k - 1 or h not in self.after:
            return lower
        following, d = self.after[h], self.discounts[k]
        total = sum(following.values())
        return max(following[w] - d, 0) / total + d * len(following) / total * lower


@pytest.mark.parametrize("discount", [None, 0.4])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_bits_and_distributions_are_those_of_the_formula(order, discount):
    model, plain = NGram(order, V, discount).train(TRAIN), Plain(order, TRAIN, discount)
    for document in (TRAIN[0][:150], HELD_OUT[0][:150]):
        expected = [-math.log2(plain.p(document[t], tuple(document[:t]))) for t in range(1, len(document))]
        np.testing.assert_allclose(model.bits(document), expected, rtol=1e-12)
        for t in (1, 2, 7, 60):
            distribution = [plain.p(w, tuple(document[:t])) for w in range(V)]
            np.testing.assert_allclose(model.probabilities(document[:t]), distribution, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 3, 6])
def test_every_distribution_sums_to_one_and_excludes_nothing(order):
    model, random = NGram(order, V).train(TRAIN), np.random.default_rng(0)
    contexts = [[], [0], [5, 5, 5, 5, 5, 5, 5], TRAIN[-1], HELD_OUT[-1][:9], *random.integers(0, V, (20, 8)).tolist()]
    for context in contexts:
        p = model.probabilities(context)
        assert p.min() > 0 and abs(p.sum() - 1) < 1e-12


def test_longer_contexts_fit_the_training_text_better_and_new_text_less_well_than_they_think():
    models = [NGram(order, V).train(TRAIN) for order in range(1, 7)]
    fit = [np.concatenate([model.bits(d) for d in TRAIN]).mean() for model in models]
    new = [np.concatenate([model.bits(d) for d in HELD_OUT]).mean() for model in models]
    assert fit == sorted(fit, reverse=True) and fit[0] < math.log2(V)
    assert all(b > a for a, b in zip(fit, new, strict=True))
    assert new[2] < new[0] - 0.5


def test_two_words_by_hand():
    model = NGram(2, 3, discount=0.5).train([[0, 1, 2], [0, 1, 1]])
    # single tokens: 1 three times, 2 once, 0 never (it only begins documents)
    single = [0 + 0.5 * 2 / 4 / 3, 2.5 / 4 + 0.5 * 2 / 4 / 3, 0.5 / 4 + 0.5 * 2 / 4 / 3]
    np.testing.assert_allclose(model.probabilities([]), single)
    # after 1: once 2, once 1
    after = [0.5 * single[0], 0.5 / 2 + 0.5 * single[1], 0.5 / 2 + 0.5 * single[2]]
    np.testing.assert_allclose(model.probabilities([0, 1]), after)
    np.testing.assert_allclose(model.bits([0, 1, 2]), [-math.log2(1.5 / 2 + 0.25 * single[1]), -math.log2(after[2])])
    np.testing.assert_allclose(model.probabilities([2]), single)  # nothing was ever seen after 2
    np.testing.assert_allclose(model.bits([0, 1, 2, 1])[-1], -math.log2(single[1]))


def test_runs_do_not_cross_documents():
    model = NGram(2, 10).train([[0, 1], [2, 3]])
    np.testing.assert_array_equal(model.probabilities([1]), model.probabilities([9]))
    assert model.probabilities([2])[3] > model.probabilities([9])[3]


def test_a_large_vocabulary_and_a_high_order_do_not_collide():
    random = np.random.default_rng(0)
    documents = [random.integers(0, 32000, 200).tolist() for _ in range(20)]
    model = NGram(8, 32000, discount=0.5).train(documents)
    plain = Plain(8, documents, 0.5, 32000)
    for row in (documents[3], [0, *random.integers(0, 32000, 50).tolist()], documents[3][:40] + documents[4][40:80]):
        expected = [-math.log2(plain.p(row[t], tuple(row[:t]))) for t in range(1, len(row))]
        np.testing.assert_allclose(model.bits(row), expected, rtol=1e-9)


def test_samples_follow_the_distribution_and_stop():
    model = NGram(2, 3, discount=0.5).train([[0, 1, 2], [0, 1, 1]])
    generator = np.random.default_rng(0)
    drawn = Counter(model.sample([0, 1], 1, generator)[0] for _ in range(4000))
    np.testing.assert_allclose([drawn[w] / 4000 for w in range(3)], model.probabilities([0, 1]), atol=0.03)
    rows = [model.sample([0], 50, generator, stop_tokens=(2,)) for _ in range(20)]
    assert all(2 not in row for row in rows) and any(len(row) < 50 for row in rows)
    assert len(model.sample([0], 5, generator)) == 5


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="order"):
        NGram(0, 10)
    with pytest.raises(ValueError, match="discount must be between 0 and 1, got 1"):
        NGram(2, 10, discount=1)
    with pytest.raises(ValueError, match="call train"):
        NGram(2, 10).bits([0, 1])
    for nothing in ([], [[0], [0]], [[]]):
        with pytest.raises(ValueError, match="nothing to count"):
            NGram(2, 10).train(nothing)
    with pytest.raises(ValueError, match="token id 10 is outside the vocabulary 0..9"):
        NGram(2, 10).train([[0, 10]])
    model = NGram(2, 10).train([[0, 1]])
    with pytest.raises(ValueError, match="token id -1"):
        model.bits([0, -1])
    with pytest.raises(ValueError, match="token id 12"):
        model.probabilities([12])
