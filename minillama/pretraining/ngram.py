"""What counting alone achieves: n-gram models with absolute discounting (chapter 9).

Of every run of k tokens that was seen, a little of its count is taken away and handed to the runs of k - 1 tokens, and
so on down to the uniform distribution. What a transformer knows beyond this baseline, it did not learn by counting.

Does: any order, exact counts in sorted arrays (no hash can collide), distributions, bits of a text, samples.
Does not: Kneser-Ney's continuation counts, pruning; runs never cross from one document to the next.
Source: Ney, Essen and Kneser 1994; Chen and Goodman 1999, section 2.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class _Level:
    """Counts of all runs of k tokens, sorted; a run is written as (number of its first k - 1 tokens) * V + last token.

    The number of a run is its place in `keys`; the number of the empty run is 0.
    """

    keys: np.ndarray  # (runs,), sorted
    counts: np.ndarray  # (runs,)
    totals: np.ndarray  # (runs of k - 1 tokens,): how often each was followed by anything
    kinds: np.ndarray  # (runs of k - 1 tokens,): by how many different tokens
    discount: float


class NGram:
    """P_k(w | h) = max(c(h w) - D_k, 0) / c(h) + D_k * kinds(h) / c(h) * P_(k-1)(w | h without its first token).

    h is the last k - 1 tokens, c counts, kinds(h) is the number of different tokens seen after h; an h that was never
    seen leaves P_(k-1), and P_0 is uniform.

    Args:
        order: n; 1 counts single tokens.
        vocab_size: V.
        discount: D for all k; None takes n1 / (n1 + 2 * n2) for each k, with n1 and n2 the number of runs seen once
            and twice, kept between 0.1 and 0.9 so that nothing is impossible.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, order: int, vocab_size: int, discount: float | None = None):
        if order < 1 or vocab_size < 1:
            raise ValueError(f"order and vocab_size must be at least 1, got {order} and {vocab_size}")
        if discount is not None and not 0 < discount < 1:
            raise ValueError(f"discount must be between 0 and 1, got {discount}")
        self.order, self.vocab_size, self.discount = order, vocab_size, discount
        self.levels: list[_Level] = []

    def train(self, documents: Iterable[Sequence[int]]) -> "NGram":
        """Count. The first token of a document (BOS) is context only: nothing has to predict it.

        Args:
            documents: token ids of each document; what was counted before is forgotten.

        Returns:
            This model.

        Raises:
            ValueError: if there is nothing to count, or an id is outside the vocabulary.
        """
        rows = [np.asarray(document, dtype=np.int64) for document in documents]
        tokens = np.concatenate(rows) if rows else np.empty(0, np.int64)
        if all(len(row) < 2 for row in rows):
            raise ValueError("nothing to count: expected a document with at least two tokens (BOS and a word)")
        self._check(tokens)
        place = np.concatenate([np.arange(len(row)) for row in rows])  # of each token in its document
        numbers, contexts, self.levels = np.zeros(len(tokens), np.int64), 1, []
        for k in range(1, self.order + 1):
            inside = place >= k - 1  # the run that ends here begins in this document
            before = np.roll(numbers, 1) if k > 1 else numbers
            keys, inverse = np.unique(before[inside] * self.vocab_size + tokens[inside], return_inverse=True)
            counts = np.bincount(inverse[place[inside] > 0], minlength=len(keys))
            once, twice = int((counts == 1).sum()), int((counts == 2).sum())
            estimate = min(max(once / max(1, once + 2 * twice), 0.1), 0.9)
            owner = keys // self.vocab_size
            totals = np.bincount(owner, weights=counts, minlength=contexts)
            kinds = np.bincount(owner, weights=counts > 0, minlength=contexts)
            self.levels.append(_Level(keys, counts, totals, kinds, self.discount or estimate))
            numbers = np.full(len(tokens), -1)
            numbers[inside] = inverse
            contexts = len(keys)
        return self

    def probabilities(self, context: Sequence[int]) -> np.ndarray:
        """The distribution of the next token.

        Args:
            context: the tokens so far; the last n - 1 of them count.

        Returns:
            Shape (V,), sums to 1.
        """
        self._check(np.asarray(context, dtype=np.int64))
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        for k, level in enumerate(self._trained(), start=1):
            h = self._number(context[len(context) - (k - 1) :]) if len(context) >= k - 1 else -1
            if h < 0 or not level.totals[h]:
                break  # a longer context was not seen either
            p *= level.discount * level.kinds[h] / level.totals[h]
            some = slice(*np.searchsorted(level.keys, [h * self.vocab_size, (h + 1) * self.vocab_size]))
            p[level.keys[some] % self.vocab_size] += (
                np.maximum(level.counts[some] - level.discount, 0) / level.totals[h]
            )
        return p

    def bits(self, tokens: Sequence[int]) -> np.ndarray:
        """-log2 of the probability of each token after the first, given those before it in this document.

        Args:
            tokens: ids of one document, shape (T,).

        Returns:
            Shape (T - 1,).
        """
        tokens = np.asarray(tokens, dtype=np.int64)
        self._check(tokens)
        p = np.full(len(tokens), 1 / self.vocab_size)
        before = np.zeros(len(tokens), np.int64)  # number of the k - 1 tokens before each one, -1 if not seen
        for level in self._trained():
            keys = before * self.vocab_size + tokens
            at = np.minimum(np.searchsorted(level.keys, keys), len(level.keys) - 1)
            found = (before >= 0) & (level.keys[at] == keys)
            known = before >= 0
            known[known] = level.totals[before[known]] > 0
            h, counts = before[known], np.where(found, level.counts[at], 0)[known]
            share = level.discount * level.kinds[h] / level.totals[h]
            p[known] = np.maximum(counts - level.discount, 0) / level.totals[h] + share * p[known]
            before = np.append(-1, np.where(found, at, -1)[:-1])
        return -np.log2(p[1:])

    def sample(
        self,
        prompt: Sequence[int],
        max_new_tokens: int,
        generator: np.random.Generator,
        stop_tokens: Collection[int] = (),
    ) -> list[int]:
        """Continue a prompt; returns the new tokens, without the stop token that ended them."""
        row = list(prompt)
        for _ in range(max_new_tokens):
            token = int(generator.choice(self.vocab_size, p=self.probabilities(row)))
            if token in stop_tokens:
                break
            row.append(token)
        return row[len(prompt) :]

    def _number(self, run: Sequence[int]) -> int:
        """Number of a run among those of its length, or -1."""
        number = 0
        for level, token in zip(self.levels, run, strict=False):
            key = number * self.vocab_size + int(token)
            number = int(np.searchsorted(level.keys, key))
            if number == len(level.keys) or level.keys[number] != key:
                return -1
        return number

    def _trained(self) -> list[_Level]:
        if not self.levels:
            raise ValueError("this model has counted nothing yet; call train(documents) first")
        return self.levels

    def _check(self, tokens: np.ndarray) -> None:
        outside = tokens[(tokens < 0) | (tokens >= self.vocab_size)]
        if len(outside):
            raise ValueError(f"token id {outside[0]} is outside the vocabulary 0..{self.vocab_size - 1}")
