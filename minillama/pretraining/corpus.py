"""From raw texts to a corpus: cleaning, duplicates, mixture (chapter 8).

A document is kept if it is text, not a copy, and not nearly a copy of one kept before. Near copies are found without
comparing all pairs: the smallest of many hashes over a document's word shingles agrees between two documents exactly
as often as their shingle sets overlap (MinHash), and only documents that agree in a whole band of hashes are compared.

Does: Unicode and line cleaning, addresses masked, simple quality rules, exact and near duplicates, weighted mixtures;
    three sources that are always there: the village, and Python's standard library and language reference.
Does not: crawl, extract text from HTML, or train a quality classifier.
Source: Touvron et al. 2023, section 2.1, and Touvron et al. 2023 (Llama 1), section 2.1; Broder 1997; Lee et al. 2022.
"""

import hashlib
import random
import re
import sysconfig
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minillama.village.pages import page
from minillama.village.stories import tell

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\ufeff]")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_IP = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
_PHONE = re.compile(r"(?<![\w.-])\+?\d{1,3}[ -]\(?\d{2,4}\)?(?:[ -]\d{2,4}){2,3}(?![\w-])")
_PRIME = 4_294_967_311  # the first prime above 2**32
# packages of the standard library that are no ordinary source text, or that some installations leave out
_NOT_CODE = {"site-packages", "test", "tests", "idlelib", "lib2to3", "encodings", "tkinter", "ensurepip", "turtledemo"}


@dataclass(frozen=True)
class Document:
    """One text and where it comes from."""

    text: str
    source: str


def clean(text: str) -> str:
    """Canonical Unicode, plain line ends, no control characters, and no addresses of people or machines.

    Args:
        text: one document.

    Returns:
        The same text in normal form C, without trailing blanks and with at most one empty line in a row (two between
        parts of code), e-mail, IPv4 and telephone addresses replaced by `<email>`, `<ip>` and `<phone>`.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _CONTROL.sub("", text).replace("\u00a0", " ")
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n{4,}", "\n\n\n", text).strip("\n")
    for pattern, mask in ((_EMAIL, "<email>"), (_IP, "<ip>"), (_PHONE, "<phone>")):
        text = pattern.sub(mask, text)
    return text


def problems(text: str, min_words: int = 20) -> list[str]:
    """Why a document should not be trained on; an empty list if nothing speaks against it.

    Args:
        text: a cleaned document.
        min_words: shorter documents carry no context to learn from.

    Returns:
        Reasons in words: too short, too few letters, repeated lines, words far too long, a wall of capitals.
    """
    words, lines = text.split(), [line for line in text.splitlines() if line.strip()]
    found = []
    if len(words) < min_words:
        found.append(f"only {len(words)} words")
    if not words:
        return found
    visible = "".join(words)
    if (letters := sum(c.isalpha() for c in visible) / len(visible)) < 0.5:
        found.append(f"{letters:.0%} letters")
    copies = sum(n - 1 for line, n in Counter(map(str.strip, lines)).items() if len(line) > 20)
    if copies > 0.3 * len(lines):
        found.append(f"{copies} of {len(lines)} lines are repeats")
    if (mean := len(visible) / len(words)) > 15:
        found.append(f"{mean:.0f} characters a word")
    if visible.isupper() and len(words) >= min_words:
        found.append("all capitals")
    return found


def exact_duplicates(texts: Iterable[str]) -> dict[int, int]:
    """Copies, compared without regard to case and blanks, by hash: nothing but 32 bytes a document is kept.

    Args:
        texts: documents in order.

    Returns:
        {index of a copy: index of the first document like it}.
    """
    first: dict[bytes, int] = {}
    copies = {}
    for i, text in enumerate(texts):
        digest = hashlib.sha256(" ".join(text.casefold().split()).encode()).digest()
        if first.setdefault(digest, i) != i:
            copies[i] = first[digest]
    return copies


def shingles(text: str, n: int = 5) -> frozenset[int]:
    """The set of all runs of n words, each as a 32-bit hash that is the same in every process.

    Args:
        text: a document; case and punctuation are disregarded.
        n: words in a shingle; a shorter document is one shingle.
    """
    words = re.findall(r"\w+", text.casefold())
    runs = (" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1)))
    return frozenset(int.from_bytes(hashlib.blake2b(run.encode(), digest_size=4).digest(), "little") for run in runs)


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """Size of the intersection over size of the union; two empty sets are equal."""
    return len(a & b) / len(a | b) if a or b else 1.0


class MinHash:
    """Signatures whose agreement estimates the Jaccard similarity of two sets.

    Args:
        n_hashes: K; the estimate has the standard error sqrt(s * (1 - s) / K).
        seed: of the hash functions h(x) = (a * x + b) mod p.
    """

    def __init__(self, n_hashes: int = 128, seed: int = 0):
        if n_hashes < 1:
            raise ValueError(f"n_hashes must be positive, got {n_hashes}")
        draw = np.random.default_rng(seed)
        self.a = draw.integers(1, 2**31, n_hashes, dtype=np.uint64)
        self.b = draw.integers(0, 2**31, n_hashes, dtype=np.uint64)

    def signature(self, items: frozenset[int]) -> np.ndarray:
        """The smallest value of each hash function over the set, shape (K,), uint64."""
        x = np.fromiter(items, dtype=np.uint64, count=len(items))
        if not len(x):
            raise ValueError("an empty set has no smallest hash; `shingles` of any text has at least one item")
        return ((self.a[:, None] * x + self.b[:, None]) % np.uint64(_PRIME)).min(axis=1)  # (K, n) -> (K,)


@dataclass(frozen=True)
class Pair:
    """Two documents that are nearly the same; `later` is the one to drop."""

    earlier: int
    later: int
    similarity: float


def near_duplicates(
    texts: Sequence[str], threshold: float = 0.8, n: int = 5, bands: int = 32, rows: int = 4, seed: int = 0
) -> list[Pair]:
    """Pairs of documents whose shingle sets overlap, found through banded MinHash and then measured exactly.

    Args:
        texts: documents in order.
        threshold: least Jaccard similarity that counts.
        n: words in a shingle.
        bands: a pair of similarity s is looked at with probability 1 - (1 - s**rows)**bands.
        rows: hashes in a band.
        seed: of the hash functions.

    Returns:
        Pairs in order of (later, earlier). Each has exactly the similarity stated; a few true pairs may be missed.

    Raises:
        ValueError: if the threshold is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    hashing, sets = MinHash(bands * rows, seed), [shingles(text, n) for text in texts]
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for i, items in enumerate(sets):
        signature = hashing.signature(items).reshape(bands, rows)
        for band in range(bands):
            buckets[band, signature[band].tobytes()].append(i)
    candidates = {(i, j) for members in buckets.values() for k, j in enumerate(members) for i in members[:k]}
    pairs = (Pair(i, j, jaccard(sets[i], sets[j])) for i, j in candidates)
    return sorted((p for p in pairs if p.similarity >= threshold), key=lambda p: (p.later, p.earlier))


def epochs(sizes: Mapping[str, float], weights: Mapping[str, float], total: float) -> dict[str, float]:
    """How often each source is read: weight * total / size.

    Args:
        sizes: of each source, in the unit of `total`.
        weights: share of the mixture; any positive scale.
        total: length of the training run.
    """
    scale = sum(weights.values())
    return {source: weights[source] / scale * total / sizes[source] for source in weights}


def mix(
    sources: Mapping[str, Sequence[str]], weights: Mapping[str, float], total: int, seed: int
) -> Iterator[Document]:
    """Documents from several sources in given shares, in an order that depends on the seed alone.

    At every step the source that is furthest behind its share gives its next document; a source that is used up is
    shuffled again and read once more.

    Args:
        sources: name to documents.
        weights: name to share of the characters; any positive scale.
        total: stop when this many characters have been given.
        seed: of the shuffles.

    Raises:
        ValueError: if a weighted source is missing or empty, or a weight is not positive.
    """
    for name, weight in weights.items():
        if weight <= 0 or not any(sources.get(name, ())):
            documents = len(sources.get(name, ()))
            raise ValueError(
                f"{name!r} needs a weight above 0 and some text, got weight {weight}, {documents} documents"
            )
    order = {name: iter(()) for name in weights}
    dice = {name: random.Random(f"{seed} {name}") for name in weights}
    given = dict.fromkeys(weights, 0)
    while sum(given.values()) < total:
        name = min(weights, key=lambda name: (given[name] / weights[name], name))
        index = next(order[name], None)
        if index is None:
            order[name] = iter(dice[name].sample(range(len(sources[name])), len(sources[name])))
            index = next(order[name])
        given[name] += len(sources[name][index])
        yield Document(sources[name][index], name)


def standard_library(limit: int | None = None, seed: int = 0) -> list[Document]:
    """Source files of the running Python: real code that is on every machine.

    Args:
        limit: number of files; None for all.
        seed: which ones.

    Returns:
        Documents in an order that depends on the seed and the file names; they differ between Python versions.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(f.relative_to(root).as_posix() for f in root.rglob("*.py") if not _NOT_CODE & set(f.parts))
    random.Random(seed).shuffle(files)
    return [Document((root / file).read_text(encoding="utf-8", errors="replace"), "code") for file in files[:limit]]


def language_reference() -> list[Document]:
    """Python's language reference as plain text: real English that is on every machine, in the order of its topics.

    The interpreter's `help()` shows it. It is about half a million characters and differs between Python versions.
    """
    from pydoc_data.topics import topics  # large, and only needed here

    return [Document(topics[name], "english") for name in sorted(topics)]


def village(number: int, first: int = 0) -> Iterator[Document]:
    """Texts of the village: a story, a page of questions and answers, a story, and so on.

    Args:
        number: documents in all.
        first: number of the first one. Document n is the same in every call, so ranges that do not overlap share
            none; held-out stories have seeds that are never reached.
    """
    for n in range(first, first + number):
        yield Document(page(n // 2), "pages") if n % 2 else Document(tell(n // 2).text, "stories")
