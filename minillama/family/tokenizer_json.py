"""A SentencePiece tokenizer in the form that the `tokenizers` library stores (chapter 21).

SentencePiece joins the two neighbours whose union has the best score; `tokenizers` looks for the earliest pair in a
list of merges. So every way to cut a piece into two pieces is listed, best piece first.

Does: pieces, merges, byte fallback, the dummy prefix, BOS in front, control tokens as special ones.
Does not: keep the library from reading control tokens in a text; `split_special_tokens=True` does, at the call.
Source: the format of `tokenizer.json`, as the library writes it.
"""

from minillama.model.bpe import CONTROL, NORMAL, SPACE, UNKNOWN
from minillama.model.tokenizer import Tokenizer


def tokenizer_json(tokenizer: Tokenizer) -> dict:
    """The content of `tokenizer.json`.

    Raises:
        ValueError: for a tokenizer that removes spaces, which this form does not.
    """
    vocabulary = tokenizer.vocabulary
    if vocabulary.remove_extra_whitespaces:
        raise ValueError("the tokenizer removes extra spaces, expected one of the Llama 2 family, which keeps them")
    pieces = vocabulary.pieces
    joinable = {piece.text for piece in pieces if piece.kind == NORMAL}
    merges = [
        [piece.text[:cut], piece.text[cut:]]
        for piece in sorted(pieces, key=lambda piece: -piece.score)
        if piece.kind == NORMAL
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in joinable and piece.text[cut:] in joinable
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [
        {"id": number, "content": piece.text, **flags}
        for number, piece in enumerate(pieces)
        if piece.kind in (UNKNOWN, CONTROL)
    ]
    bos = tokenizer.piece(tokenizer.bos_id)
    prefix = [{"type": "Prepend", "prepend": SPACE}] if vocabulary.add_dummy_prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if vocabulary.add_dummy_prefix else []
    first, text = {"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*prefix, {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, text],
            "pair": [first, text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [tokenizer.bos_id], "tokens": [bos]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": tokenizer.piece(tokenizer.unk_id),
            "fuse_unk": True,
            "byte_fallback": vocabulary.byte_fallback,
            "vocab": {piece.text: number for number, piece in enumerate(pieces)},
            "merges": merges,
        },
    }
