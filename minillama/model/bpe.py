"""Byte-pair encoding in the style of SentencePiece (chapter 2).

Start from characters; join the most frequent pair of neighbours into a new piece, everywhere; repeat. The order in
which the pieces were learned becomes their score, and the score is all that encoding needs.

Does: the dummy prefix and "▁" for a space, pieces inside one script and one word, single digits, at most 16 characters,
    character coverage, byte fallback, pieces made of spaces only; ties go to the shorter, then to the smaller text.
Does not: normalise Unicode; give pieces to control characters; skip long lines as the reference does.
    The script of a character is guessed from its Unicode name, which is right for letters and rarely wrong for signs.
Source: Sennrich et al. 2016 (BPE); Kudo and Richardson 2018 (SentencePiece); Touvron et al. 2023, section 2.2.
"""

import heapq
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

SPACE = "\u2581"  # "▁", how SentencePiece writes a space
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of a piece, numbered as in the model file
MAX_PIECE_LENGTH = 16  # characters, as in Llama 2's tokenizer
DIGITS = frozenset("0123456789０１２３４５６７８９")


class Piece(NamedTuple):
    """One entry of the vocabulary; its position in the vocabulary is its token id."""

    text: str
    score: float
    kind: int = NORMAL


@dataclass(frozen=True)
class Vocabulary:
    """Everything that decides how text becomes token ids."""

    pieces: Sequence[Piece]
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = False
    byte_fallback: bool = True
    trainer: dict = field(default_factory=dict)  # further trainer settings, kept as a record


def script(char: str) -> str:
    """Writing system of a character, "" for a mark that adapts to its neighbours, "Common" for signs and digits."""
    words = unicodedata.name(char, "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").replace("-", " ").split()
    name, category = words[0] if words else "", unicodedata.category(char)
    if name in ("COMBINING", "VARIATION") and category[0] == "M" or char in "\u200c\u200d":
        return ""
    if name in ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "KANGXI") and category[0] in "LMS":
        return "Han"  # Japanese mixes the three in one word, so SentencePiece counts them as one
    if name in ("MODIFIER", "MATHEMATICAL", "DOUBLE", "SCRIPT", "BLACK", "ANGSTROM", "KELVIN"):
        return "Common"
    return name if category[0] in "LM" or category == "Nd" and name not in ("DIGIT", "ARABIC", "EXTENDED") else "Common"


def _fragments_pattern(alphabet: Iterable[str], split_digits: bool) -> re.Pattern:
    """Pattern of the stretches of a word that a piece may cover: leading spaces, then one script."""
    by_script = defaultdict(str)
    for char in sorted(set(alphabet) - {SPACE} - (DIGITS if split_digits else set())):
        by_script[script(char)] += re.escape(char)
    marks = by_script.pop("", "")
    start = f"{SPACE}*[{marks}]*" if marks else f"{SPACE}*"
    stretches = [f"{start}[{chars}][{chars}{marks}]*" for _, chars in sorted(by_script.items())]
    return re.compile("|".join([*stretches, *([f"{SPACE}*[{marks}]+"] if marks else []), f"{SPACE}+"]))


def _count_words(texts: Iterable[str]) -> tuple[Counter, Counter]:
    """Frequencies of words (with their leading spaces) and of characters. Every line gets a dummy prefix."""
    words: Counter = Counter()
    characters: Counter = Counter()
    for text in [texts] if isinstance(texts, str) else texts:
        if text := text.strip("\n"):
            lines = SPACE + re.sub("\n+", "\n" + SPACE, text.replace(" ", SPACE))
            characters.update(lines)
            words.update(re.findall(f"{SPACE}*[^{SPACE}\n]+|{SPACE}+", lines))
    return words, characters


def _is_valid(left: str, right: str) -> bool:
    # Spaces may begin a piece (one only) or be all of it. The rest was cut apart by the fragments pattern.
    return len(left) + len(right) <= MAX_PIECE_LENGTH and (len(left) == 1 or left[-1] != SPACE or right[-1] == SPACE)


def learn_merges(words: dict[str, int], n_merges: int) -> list[str]:
    """The first `n_merges` new pieces that BPE learns from distinct words and their frequencies.

    Pair frequencies are kept up to date by visiting, for each merge, only the words that hold the pair; a heap whose
    entries may be too high (they are corrected when they surface) finds the most frequent pair.

    Args:
        words: frequency of each distinct word.
        n_merges: how many pieces to learn.

    Returns:
        the pieces in the order in which they were learned; fewer when no pair is left.
    """
    symbols = [list(word) for word in words]
    frequencies = list(words.values())
    counts: dict[tuple[str, str], int] = defaultdict(int)
    where: dict[tuple[str, str], list[int]] = defaultdict(list)  # may name a word twice
    for index, word in enumerate(symbols):
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += frequencies[index]
            where[pair].append(index)

    def entry(pair: tuple[str, str]) -> tuple[int, int, str, tuple[str, str]]:
        joined = pair[0] + pair[1]  # sort key: most frequent, then shortest, then smallest
        return -counts[pair], len(joined), joined, pair

    heap = [entry(pair) for pair in counts if _is_valid(*pair)]
    heapq.heapify(heap)
    learned: dict[str, None] = {}
    while heap and len(learned) < n_merges:
        negative, _, joined, pair = heapq.heappop(heap)
        if counts[pair] != -negative:  # stale: the pair has lost occurrences to other merges
            if counts[pair] > 0:
                heapq.heappush(heap, entry(pair))
            continue
        if joined in learned:  # the same text from another pair, (a, bc) after (ab, c): no new piece
            continue
        learned[joined] = None
        left, right = pair
        places = where.pop(pair)
        n_known = len(where)
        for index in places:
            word, frequency = symbols[index], frequencies[index]
            i = 0
            while left in word[i:-1]:
                i = word.index(left, i) + 1
                if word[i] != right:
                    continue
                word[i - 1 : i + 1] = (joined,)
                if i > 1:
                    before = word[i - 2]
                    counts[before, left] -= frequency
                    counts[before, joined] += frequency
                    where[before, joined].append(index)
                if i < len(word):
                    after = word[i]
                    counts[right, after] -= frequency
                    counts[joined, after] += frequency
                    where[joined, after].append(index)
        counts[pair] = 0
        # A pair that holds the new piece is new itself, so it stands at the end of the index.
        for new in islice(reversed(where), len(where) - n_known):
            if _is_valid(*new):
                heapq.heappush(heap, entry(new))
    return list(learned)


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    character_coverage: float = 1.0,
    split_digits: bool = True,
    byte_fallback: bool = True,
    control_pieces: Sequence[str] = (),
) -> Vocabulary:
    """Learn a vocabulary with the ids laid out as in Llama 2: unknown, BOS, EOS, bytes, merged pieces, characters.

    Args:
        texts: the corpus, as strings of any length; a line feed separates lines and never enters a piece.
        vocab_size: number of pieces wanted, everything included.
        character_coverage: share of the corpus' characters that get a piece of their own; the rest become bytes.
            Llama 2 used 0.99995.
        split_digits: make every ASCII digit a token of its own.
        byte_fallback: give every byte a piece, so that no text is unknown.
        control_pieces: names of further control tokens, placed after EOS; text never produces them.

    Returns:
        the vocabulary; the same corpus always gives the same one.

    Raises:
        ValueError: if the corpus is empty, or too small or its alphabet too large for `vocab_size`.
    """
    words, characters = _count_words(texts)
    for char in [c for c in characters if c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff"]:
        del characters[char]  # control characters are left to byte fallback
    if not characters:
        raise ValueError("the corpus has no text to learn from; pass at least one non-empty string")
    total, covered, alphabet = sum(characters.values()), 0, []
    for char, count in sorted(characters.items(), key=lambda item: (-item[1], item[0])):
        if covered >= character_coverage * total:
            break
        covered += count
        alphabet.append(char)

    special = [Piece("<unk>", 0.0, UNKNOWN), Piece("<s>", 0.0, CONTROL), Piece("</s>", 0.0, CONTROL)]
    special += [Piece(name, 0.0, CONTROL) for name in control_pieces]
    if byte_fallback:
        special += [Piece(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    n_merges = vocab_size - len(special) - len(alphabet)
    if n_merges < 0:
        raise ValueError(
            f"vocab_size={vocab_size} has no room for {len(special)} special pieces and {len(alphabet)} characters; "
            f"ask for at least {len(special) + len(alphabet)} or lower character_coverage={character_coverage}"
        )
    fragments: Counter = Counter()
    find = _fragments_pattern(alphabet, split_digits).findall
    for word, count in words.items():
        for fragment in find(word):
            fragments[fragment] += count
    merged = learn_merges(fragments, n_merges)
    if len(merged) < n_merges:
        raise ValueError(
            f"this corpus supports at most {vocab_size - n_merges + len(merged)} pieces, "
            f"vocab_size={vocab_size} was asked for; add text or ask for fewer"
        )
    learned = merged + alphabet
    trainer = {"vocab_size": vocab_size, "character_coverage": character_coverage, "split_digits": split_digits}
    return Vocabulary(
        pieces=tuple(special + [Piece(text, -float(rank)) for rank, text in enumerate(learned)]),
        byte_fallback=byte_fallback,
        trainer=trainer | {"allow_whitespace_only_pieces": True, "max_sentencepiece_length": MAX_PIECE_LENGTH},
    )
