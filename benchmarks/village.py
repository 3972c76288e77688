"""How rich is the village's text? Word types, lengths, and bits per character by several measures.

Run `python benchmarks/village.py` (about a minute); `python benchmarks/village.py 2000 200` takes fewer stories.

xz and the n-grams measure how well a text is predicted without understanding it; the generator's own choices are the
floor, which no model can beat by more than the few choices that lead to the same text.
"""

import lzma
import math
import re
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from minillama.village.stories import tell

DISCOUNT = 0.75


class WordNGrams:
    """Interpolated absolute discounting over words and punctuation.

    Args:
        tokens: training text.
        order: longest n.
    """

    def __init__(self, tokens: list[str], order: int = 5):
        self.order, self.types = order, len(set(tokens)) + 1
        self.counts, self.totals, self.followers = Counter(), Counter(), Counter()
        for n in range(1, order + 1):
            for gram in zip(*(tokens[i:] for i in range(n)), strict=False):
                self.followers[gram[:-1]] += gram not in self.counts
                self.counts[gram] += 1
                self.totals[gram[:-1]] += 1

    def probability(self, gram: tuple[str, ...]) -> float:
        """Of the last word given the ones before it."""
        if not gram:
            return 1 / self.types
        total, lower = self.totals[gram[:-1]], self.probability(gram[1:])
        if total == 0:
            return lower
        kept = max(self.counts[gram] - DISCOUNT, 0)
        return (kept + DISCOUNT * self.followers[gram[:-1]] * lower) / total

    def bits(self, tokens: list[str], n: int) -> float:
        """Information in a text under the n-gram model."""
        return -sum(math.log2(self.probability(tuple(tokens[max(0, i - n + 1) : i + 1]))) for i in range(len(tokens)))


def words(text: str) -> list[str]:
    """Words, punctuation marks and line ends."""
    return re.findall(r"\w+|[^\w\s]|\n", text)


def main(n_train: int = 12_000, n_test: int = 600) -> dict[str, float]:
    """Measure, print a table, and return it."""
    train = [tell(seed) for seed in range(n_train)]
    test = [tell(10**9 + seed) for seed in range(n_test)]
    train_text, test_text = ("\n".join(s.text for s in part) for part in (train, test))
    train_words, test_words = words(train_text), words(test_text)
    lengths = sorted(len(words(s.text)) for s in train)
    ngrams = WordNGrams(train_words)
    rows = {
        "stories": n_train,
        "characters a story": len(train_text) / n_train,
        "words and marks a story, median": lengths[n_train // 2],
        "words and marks a story, 1 % below": lengths[n_train // 100],
        "words and marks a story, 1 % above": lengths[-n_train // 100],
        "word types": len({w.lower() for w in train_words if w.isalpha()}),
        "different openings (first 100 characters)": len({s.body[:100] for s in train}),
        "bits per character: xz": 8 * len(lzma.compress(train_text.encode(), preset=9)) / len(train_text),
        **{f"bits per character: {n}-gram": ngrams.bits(test_words, n) / len(test_text) for n in (1, 2, 3, 5)},
        "bits per character: own choices": sum(s.bits for s in test) / len(test_text),
    }
    for name, value in rows.items():
        print(f"{name:55}{value:10,.3f}" if isinstance(value, float) else f"{name:55}{value:10,}")
    return rows


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
