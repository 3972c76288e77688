"""The SentencePiece model file, read and written without a protobuf library (chapter 2).

A `tokenizer.model` is a protocol-buffer message: a row of fields, each a tag (field number and wire type) and a value.
Three wire types are enough: variable-length integers, 4-byte floats, and length-prefixed bytes (text, inner messages).

Does: pieces with score and type, trainer and normaliser settings; files that `sentencepiece` loads and writes; checks
    that name what is wrong with a file.
Does not: models that are not BPE, normalise text (other than by the identity) or write spaces as suffixes: an error.
Source: sentencepiece's `sentencepiece_model.proto` (field numbers); the protobuf encoding guide (wire types).
"""

import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from minillama.model.bpe import BYTE, CONTROL, NORMAL, UNKNOWN, Piece, Vocabulary

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
BPE_MODEL = 2  # trainer_spec.model_type; 1 is unigram, 3 word, 4 char
# trainer_spec: field number and type of every setting that a model file may record
TRAINER_FIELDS = {
    "input": (1, str), "model_prefix": (2, str), "model_type": (3, int), "vocab_size": (4, int),
    "self_test_sample_size": (6, int), "input_format": (7, str), "character_coverage": (10, float),
    "input_sentence_size": (11, int), "seed_sentencepiece_size": (14, int), "shrinking_factor": (15, float),
    "num_threads": (16, int), "num_sub_iterations": (17, int), "max_sentence_length": (18, int),
    "shuffle_input_sentence": (19, bool), "max_sentencepiece_length": (20, int), "split_by_unicode_script": (21, bool),
    "split_by_whitespace": (22, bool), "split_by_number": (23, bool), "treat_whitespace_as_suffix": (24, bool),
    "split_digits": (25, bool), "allow_whitespace_only_pieces": (26, bool), "vocabulary_output_piece_score": (32, bool),
    "hard_vocab_limit": (33, bool), "use_all_vocab": (34, bool), "byte_fallback": (35, bool),
    "required_chars": (36, str), "unk_id": (40, int), "bos_id": (41, int), "eos_id": (42, int), "pad_id": (43, int),
    "unk_surface": (44, str), "unk_piece": (45, str), "bos_piece": (46, str), "eos_piece": (47, str),
    "pad_piece": (48, str), "train_extremely_large_corpus": (49, bool), "enable_differential_privacy": (50, bool),
    "differential_privacy_noise_level": (51, float), "differential_privacy_clipping_threshold": (52, int),
}  # fmt: skip


class ModelFileError(ValueError):
    """A file that is not a readable SentencePiece BPE model."""


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers, such as pad_id -1, are written as 64-bit two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)  # seven bits a byte, low bits first; the top bit says "more follow"
        value >>= 7
    return bytes(out) + bytes([value])


def _field(number: int, value: int | float | str | bytes) -> bytes:
    if isinstance(value, int):  # bool included
        return _varint(number << 3 | VARINT) + _varint(int(value))
    if isinstance(value, float):
        return _varint(number << 3 | FIXED32) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | BYTES) + _varint(len(content)) + content


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ModelFileError("an integer has more than 64 bits")


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            value, at = _read_varint(data, at)
        elif wire_type == BYTES:
            length, at = _read_varint(data, at)
            value, at = data[at : at + length], at + length
        elif wire_type == FIXED32:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        elif wire_type == FIXED64:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        else:
            raise ModelFileError(f"unknown wire type {wire_type}")
        if at > len(data):
            raise ModelFileError(f"field {number} needs {at - len(data)} more bytes than there are")
        yield number, value


def serialize(vocabulary: Vocabulary) -> bytes:
    """The bytes of a SentencePiece model file.

    Args:
        vocabulary: pieces and settings; `trainer` settings are written too, by the names in `TRAINER_FIELDS`.

    Returns:
        a serialized `ModelProto` message.

    Raises:
        ValueError: for a trainer setting that the format does not have.
    """
    if unknown := set(vocabulary.trainer) - set(TRAINER_FIELDS):
        raise ValueError(f"unknown trainer settings {sorted(unknown)}; the format has {sorted(TRAINER_FIELDS)}")
    settings = {"vocab_size": len(vocabulary.pieces)} | vocabulary.trainer
    settings |= {"model_type": BPE_MODEL, "byte_fallback": vocabulary.byte_fallback}
    out = []
    for text, score, kind in vocabulary.pieces:
        piece = _field(1, text) + _field(2, float(score)) + (_field(3, kind) if kind != NORMAL else b"")
        out.append(_field(1, piece))
    ordered = sorted((*TRAINER_FIELDS[name], value) for name, value in settings.items())
    out.append(_field(2, b"".join(_field(number, kind(value)) for number, kind, value in ordered)))
    normalizer = [(1, "identity"), (2, ""), (3, vocabulary.add_dummy_prefix), (4, vocabulary.remove_extra_whitespaces)]
    out.append(_field(3, b"".join(_field(number, value) for number, value in [*normalizer, (6, "")])))
    return b"".join(out)


def parse(data: bytes) -> Vocabulary:
    """Read the bytes of a SentencePiece model file.

    Args:
        data: the content of a `tokenizer.model`.

    Returns:
        the vocabulary, with all recorded trainer settings.

    Raises:
        ModelFileError: if the bytes are no SentencePiece model, are cut short, or describe a model that is not BPE
            or changes the text before cutting it.
    """
    try:
        vocabulary = _parse(data)
    except ModelFileError as error:
        raise ModelFileError(f"not a SentencePiece BPE model: {error}") from None
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise ModelFileError(f"not a SentencePiece model, or cut short or damaged ({error})") from error
    return vocabulary


def _parse(data: bytes) -> Vocabulary:
    pieces: list[Piece] = []
    specs: dict[int, dict] = {}
    for number, value in _fields(data):
        if number == 1:
            content = dict(_fields(value))
            pieces.append(Piece(content.get(1, b"").decode(), content.get(2, 0.0), content.get(3, NORMAL)))
        elif number in (2, 3):
            specs[number] = dict(_fields(value))
    trainer, normalizer = specs.get(2, {}), specs.get(3, {})
    kinds = [piece.kind for piece in pieces]
    if kinds.count(UNKNOWN) != 1:
        raise ModelFileError(f"expected one unknown piece, found {kinds.count(UNKNOWN)} among {len(pieces)} pieces")
    if (model_type := trainer.get(3, 1)) != BPE_MODEL:
        names = {1: "unigram", 3: "word", 4: "char"}
        raise ModelFileError(f"it is a {names.get(model_type, model_type)} model; train one with model_type=bpe")
    if not normalizer:
        raise ModelFileError("its last part, the normaliser settings, is missing; the file may be cut short")
    if normalizer.get(2):
        raise ModelFileError("it normalises text by a compiled table; train one with normalization_rule_name=identity")
    if trainer.get(24) or not normalizer.get(5, True):
        raise ModelFileError("it writes spaces as suffixes or not at all, which minillama does not support")
    if not all(piece.text for piece in pieces) or not all(NORMAL <= kind <= BYTE for kind in kinds):
        raise ModelFileError(f"it has an empty piece or a type outside {NORMAL}..{BYTE}")
    repeated = len(pieces) - len({(piece.text, piece.kind in (UNKNOWN, CONTROL, BYTE)) for piece in pieces})
    if repeated:
        raise ModelFileError(f"{repeated} of its pieces occur twice")
    if trainer.get(35) and kinds.count(BYTE) != 256:
        raise ModelFileError(f"it has byte fallback but {kinds.count(BYTE)} byte pieces instead of 256")
    settings = {}
    for name, (number, kind) in TRAINER_FIELDS.items():
        if (value := trainer.get(number)) is not None and name not in ("model_type", "byte_fallback"):
            if kind is int and value >> 63:
                value -= 1 << 64
            settings[name] = value.decode() if kind is str else kind(value)
    return Vocabulary(
        tuple(pieces), bool(normalizer.get(3, True)), bool(normalizer.get(4, True)), bool(trainer.get(35)), settings
    )


def write_model(path: str | os.PathLike, vocabulary: Vocabulary) -> None:
    """Save a model file; a reader never sees half of it, because it is written beside its place and then renamed.

    Args:
        path: where the `.model` file goes; an older one is replaced.
        vocabulary: what to save.
    """
    path = Path(path)
    data = serialize(vocabulary)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_model(path: str | os.PathLike) -> Vocabulary:
    """Read a model file.

    Args:
        path: a `tokenizer.model`.

    Returns:
        its vocabulary.

    Raises:
        FileNotFoundError: if there is no such file.
        ModelFileError: as for `parse`, with the path.
    """
    data = Path(path).read_bytes()
    try:
        return parse(data)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error.__cause__
