"""Several texts in one row (chapter 12).

Texts differ in length, and a batch is a rectangle. Instead of filling it with padding, short texts share a row; the
model is told which tokens belong together and keeps the texts apart.

Does: decides which texts share a row; lays them out as tensors.
Does not: cut a text: one that is longer than a row is an error.
Source: Touvron et al. 2023b, section 3.1, packs too; whether its texts see each other is not said. First fit is an old
    rule for packing; see Johnson 1973.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def pack(lengths: Sequence[int], context: int) -> list[list[int]]:
    """Which texts share a row of `context` tokens: the longest first, each into the first row where it fits.

    Args:
        lengths: of the texts, in tokens.
        context: length of a row.

    Returns:
        the numbers of the texts in each row.

    Raises:
        ValueError: if a text is longer than a row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[i] > context:
            raise ValueError(f"a dialogue of {lengths[i]} tokens does not fit a row of {context}; make rows longer")
        fits = next((row for row, left in enumerate(room) if left >= lengths[i]), len(rows))
        if fits == len(rows):
            rows.append([])
            room.append(context)
        rows[fits].append(i)
        room[fits] -= lengths[i]
    return rows


def packed(texts: Sequence[Sequence[int]], context: int) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """Texts laid out in rows.

    Args:
        texts: token ids of each.
        context: length of a row at most; rows are as long as the fullest one.

    Returns:
        ids, shape (rows, T), 0 where no text is; the number of each token's text, shape (rows, T), -1 where none is;
        and where each text ends: its row, and the column of its last token.

    Raises:
        ValueError: as `pack`.
    """
    rows = pack([len(text) for text in texts], context)
    length = max(sum(len(texts[i]) for i in row) for row in rows)
    tokens, documents = torch.zeros(len(rows), length, dtype=torch.long), torch.full((len(rows), length), -1)
    ends = [(0, 0)] * len(texts)
    for r, row in enumerate(rows):
        end = 0
        for i in row:
            begin, end = end, end + len(texts[i])
            tokens[r, begin:end] = torch.tensor(texts[i])
            documents[r, begin:end] = i
            ends[i] = (r, end - 1)
    return tokens, documents, ends
