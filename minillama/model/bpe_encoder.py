"""Encoding by score: the inner loop of the tokenizer, in plain Python (chapter 2).

Cut the text into characters; of all neighbours whose joined text is a piece, join the pair with the best score, the
leftmost on ties; repeat until no pair makes a piece. A character that is no piece becomes its UTF-8 bytes.

Does: the ids of `sentencepiece` for every identity-normalised BPE model, with user-defined and unused pieces; control
    tokens never come out of text.
Does not: dropout of merges; decoding (`minillama.model.tokenizer.Tokenizer` does it).
Source: Sennrich et al. 2016; Kudo and Richardson 2018; the merge by score is that of sentencepiece's `bpe_model.cc`.
"""

import heapq
import re

from minillama.model.bpe import BYTE, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED, Vocabulary

CACHE_SIZE, CACHED_LENGTH = 100_000, 64  # words remembered by the encoder, and the longest one that is


def checked(text: str) -> str:
    """`text` itself, if it is a string of whole characters.

    Args:
        text: what the caller wants to encode.

    Returns:
        `text`.

    Raises:
        TypeError: if it is no string.
        ValueError: if it holds half of a surrogate pair.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected one string, got {type(text).__name__}; encode a batch one text at a time")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"position {error.start} holds {ascii(text[error.start])}, half of a UTF-16 pair, which is no character; "
            'decode the text with errors="replace" before encoding it'
        ) from None
    return text


class BPEEncoder:
    """Encode by score, in plain Python.

    Args:
        vocabulary: pieces and settings, from `train_bpe` or `read_model`.
        use_cache: remember the ids of words already seen.
    """

    def __init__(self, vocabulary: Vocabulary, use_cache: bool = True):
        self.vocabulary = vocabulary
        pieces = list(enumerate(vocabulary.pieces))
        # Only these types can come out of text: control, unknown and byte pieces are not in the table.
        self.ids = {text: i for i, (text, _, kind) in pieces if kind in (NORMAL, USER_DEFINED, UNUSED)}
        self.scores = {text: -score for text, score, kind in vocabulary.pieces if text in self.ids}
        self.unused = {text for text, _, kind in vocabulary.pieces if kind == UNUSED}
        self.byte_ids = {int(text[3:5], 16): i for i, (text, _, kind) in pieces if kind == BYTE}
        self.unk_id = next(i for i, piece in pieces if piece.kind == UNKNOWN)
        self.cache: dict[str, list[int]] | None = {} if use_cache else None
        # A user-defined piece is cut out whole, the longest first, and takes no part in merges.
        self.whole = {text for text, _, kind in vocabulary.pieces if kind == USER_DEFINED}
        self.symbols = re.compile("|".join([*map(re.escape, sorted(self.whole, key=len, reverse=True)), "(?s:.)"]))
        # If no piece runs on into the next word, words can be encoded (and remembered) one by one.
        crossing = any(re.search(f"[^{SPACE}]{SPACE}", text) for text in self.ids)
        one_by_one = not crossing and not self.whole and vocabulary.byte_fallback
        self.words = re.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+" if one_by_one else "(?s:.+)")

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, equal to those of `sentencepiece`.

        Args:
            text: any string without lone surrogates; "" gives [].

        Returns:
            ids, without BOS or EOS.

        Raises:
            TypeError: if `text` is no string.
            ValueError: if `text` holds a lone surrogate.
        """
        text = checked(text)
        if self.vocabulary.remove_extra_whitespaces:
            text = re.sub(" +", " ", text.lstrip(" "))
        if text and self.vocabulary.add_dummy_prefix:
            text = " " + text  # so that "hen" has the same pieces at the start of a text and inside it
        text = text.replace(" ", SPACE)
        if self.vocabulary.remove_extra_whitespaces:
            text = text.rstrip(SPACE)
        ids: list[int] = []
        for word in self.words.findall(text):
            known = self.cache.get(word) if self.cache is not None else None
            if known is None:
                known = self._encode_word(word)
                if self.cache is not None and len(word) <= CACHED_LENGTH:
                    if len(self.cache) >= CACHE_SIZE:
                        self.cache.clear()
                    self.cache[word] = known
            ids += known
        return ids

    def _encode_word(self, word: str) -> list[int]:
        symbols = self.symbols.findall(word) if self.whole else list(word)
        frozen = {i for i, symbol in enumerate(symbols) if symbol in self.whole} if self.whole else ()
        before = list(range(-1, len(symbols) - 1))  # linked list: joining empties the right symbol
        after = [*range(1, len(symbols)), -1]
        scores, heap = self.scores, []
        parts: dict[str, tuple[str, str]] = {}  # how an unused piece was made, to undo it

        def consider(left: int, right: int) -> None:
            if left < 0 or right < 0 or left in frozen or right in frozen:
                return
            joined = symbols[left] + symbols[right]
            if joined in scores:
                # the best score comes first, then the leftmost pair
                heapq.heappush(heap, (scores[joined], left, right, joined))
                if joined in self.unused:
                    parts[joined] = symbols[left], symbols[right]

        for i in range(len(symbols) - 1):
            consider(i, i + 1)
        while heap:
            _, left, right, joined = heapq.heappop(heap)
            size = len(symbols[left]) + len(symbols[right])
            if not symbols[left] or not symbols[right] or size != len(joined):
                continue  # one of the two has been joined with another neighbour
            symbols[left], symbols[right] = joined, ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            consider(before[left], left)
            consider(left, after[left])

        ids: list[int] = []
        todo = [symbol for symbol in reversed(symbols) if symbol]
        while todo:
            symbol = todo.pop()
            if symbol in parts:
                todo += reversed(parts[symbol])
            elif symbol in self.ids:
                ids.append(self.ids[symbol])
            elif self.vocabulary.byte_fallback:
                ids += [self.byte_ids[byte] for byte in symbol.encode()]
            elif not ids or ids[-1] != self.unk_id:  # a run of unknown characters is one unknown token
                ids.append(self.unk_id)
        return ids
