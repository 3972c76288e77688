"""The tokenizer that the library uses: text to token ids and back (chapter 2).

A vocabulary, run by `sentencepiece`, which is compiled; `minillama.model.bpe_encoder` gives the same ids in Python.
BOS and EOS are added by code, on request: text that says "</s>" is four characters of text.

Does: any identity-normalised SentencePiece BPE model, Llama 2's included; training; control tokens added by code.
Does not: sampling of alternative segmentations; padding (`pad_id` is -1 as in Llama 2: there is no such token).
Source: Touvron et al. 2023, section 2.2; Kudo and Richardson 2018.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import sentencepiece

from minillama.model.bpe import CONTROL, SPACE, Piece, Vocabulary, train_bpe
from minillama.model.bpe_encoder import BPEEncoder, checked
from minillama.model.sentencepiece_file import ModelFileError, read_model, serialize, write_model

__all__ = ["BPEEncoder", "ModelFileError", "Tokenizer", "train_bpe"]


class Tokenizer:
    """What the library uses: a vocabulary run by `sentencepiece`, with BOS and EOS added by code only.

    Args:
        vocabulary: pieces and settings, from `train_bpe` or `read_model`.
    """

    pad_id = -1

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=serialize(vocabulary))
        self.vocab_size = len(vocabulary.pieces)
        self.unk_id = self._processor.unk_id()
        self.bos_id = self._processor.bos_id()
        self.eos_id = self._processor.eos_id()
        self._ids = {piece.text: i for i, piece in enumerate(vocabulary.pieces)}

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "Tokenizer":
        """Load a `tokenizer.model`: one of ours, Llama 2's, or any other SentencePiece BPE model.

        Args:
            path: the model file.

        Returns:
            the tokenizer.

        Raises:
            FileNotFoundError: if there is no such file.
            ModelFileError: if it is no SentencePiece BPE model.
        """
        return cls(read_model(path))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        path: str | os.PathLike | None = None,
        character_coverage: float = 1.0,
        control_pieces: Sequence[str] = (),
    ) -> "Tokenizer":
        """Learn a vocabulary from text.

        Args:
            texts: the corpus.
            vocab_size: number of pieces, everything included.
            path: if given, the model file is saved there.
            character_coverage: share of the characters that get a piece of their own; see `train_bpe`.
            control_pieces: names of control tokens; they take the last ids.

        Returns:
            the tokenizer.

        Raises:
            ValueError: as `train_bpe` and `with_control_pieces`.
        """
        vocabulary = train_bpe(texts, vocab_size - len(control_pieces), character_coverage)
        tokenizer = cls(vocabulary).with_control_pieces(control_pieces)
        if path is not None:
            tokenizer.save(path)
        return tokenizer

    def save(self, path: str | os.PathLike) -> None:
        """Write the model file, atomically; `sentencepiece` can load it.

        Args:
            path: where it goes.
        """
        write_model(path, self.vocabulary)

    def with_control_pieces(self, names: Sequence[str]) -> "Tokenizer":
        """A tokenizer with more control tokens, such as Code Llama's "▁<PRE>"; no text encodes to them.

        Args:
            names: new pieces of two characters or more; they take the next ids, in order.

        Returns:
            a new tokenizer; this one is unchanged. With it, grow the model's embedding and output matrices.

        Raises:
            ValueError: if a name is too short or already a piece.
        """
        for name in names:
            if len(name) < 2 or name in self._ids or list(names).count(name) > 1:
                raise ValueError(f"control piece {name!r} must be new and have at least two characters")
        added = [Piece(name, 0.0, CONTROL) for name in names]
        pieces = (*self.vocabulary.pieces, *added)
        trainer = self.vocabulary.trainer | {"vocab_size": len(pieces)}
        return Tokenizer(replace(self.vocabulary, pieces=pieces, trainer=trainer))

    def encode(self, text: str, bos: bool = False, eos: bool = False) -> list[int]:
        """Token ids of `text`.

        Args:
            text: any string without lone surrogates.
            bos: put the beginning-of-sequence id in front.
            eos: put the end-of-sequence id behind.

        Returns:
            ids; [] for "" without `bos` and `eos`.

        Raises:
            TypeError: if `text` is no string.
            ValueError: if `text` holds a lone surrogate.
        """
        ids = self._processor.encode(checked(text))
        return [self.bos_id] * bos + ids + [self.eos_id] * eos

    def decode(self, ids: Iterable[int]) -> str:
        """Text of a sequence of ids; control tokens give nothing, bytes that are no UTF-8 give "\ufffd".

        Args:
            ids: integers or a 1-dimensional tensor of them.

        Returns:
            the text, without the dummy prefix.

        Raises:
            ValueError: for an id outside the vocabulary, padding (-1) included.
        """
        ids = [int(i) for i in ids]
        for i in ids:
            self._check(i)
        return self._processor.decode(ids)

    def piece(self, token_id: int) -> str:
        """The piece with this id, such as "▁hen" or "<0x0A>".

        Args:
            token_id: 0 to vocab_size - 1.

        Returns:
            its text.

        Raises:
            ValueError: for an id outside the vocabulary.
        """
        self._check(token_id)
        return self.vocabulary.pieces[token_id].text

    def id(self, piece: str) -> int:
        """The id of a piece, control tokens included.

        Args:
            piece: exact text, with "▁" for a space.

        Returns:
            its id.

        Raises:
            KeyError: if the vocabulary does not have it.
        """
        if piece not in self._ids:
            raise KeyError(f"no piece {piece!r} among {self.vocab_size}; a space is written {SPACE!r}")
        return self._ids[piece]

    def _check(self, token_id: int) -> None:
        if not 0 <= token_id < self.vocab_size:
            hint = "remove padding before decoding" if token_id == self.pad_id else "was it made by another tokenizer?"
            raise ValueError(f"token id {token_id} is outside 0..{self.vocab_size - 1}; {hint}")
