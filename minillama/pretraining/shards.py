"""Token shards and batches: the corpus as one long row of numbers (chapter 8).

All documents are encoded once and laid end to end; the row is stored in a few flat files that are mapped, not read,
so that a corpus larger than memory costs nothing to open. A batch is B windows of the row, and an epoch visits every
window once, in an order that the seed and the epoch's number alone decide: the position is two numbers, and a run
that stopped goes on with the very batch that it would have seen.

Does: uint16 or uint32 shards with an index, written all or nothing; packing across document boundaries; shuffling by
    windows; one slice of every batch per process; exact resume, also on another number of processes.
Does not: keep a document in one window (attention sees across the boundary, where BOS and EOS stand, as in the usual
    pretraining); hold an order for more windows than fit in memory (8 bytes each).
Source: our own design; the single stream of tokens is that of Brown et al. 2020, appendix B.
"""

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minillama.model.sentencepiece_file import serialize
from minillama.model.tokenizer import Tokenizer
from minillama.pretraining.corpus import Document

FORMAT = "minillama token shards 1"


def write_shards(
    documents: Iterable[Document], tokenizer: Tokenizer, folder: str | Path, shard_tokens: int = 2**26
) -> "TokenShards":
    """Encode documents as BOS, text, EOS and lay them end to end: all or nothing.

    The files go to a hidden folder beside the target, which takes its name only when everything is on the disk.

    Args:
        documents: in the order of the row; any iterable, read once.
        tokenizer: its vocabulary decides the number type, 2 bytes per token up to 65,536 pieces.
        folder: must not exist yet, or be empty.
        shard_tokens: a new shard begins after the document that reaches this many tokens.

    Returns:
        The shards, opened.

    Raises:
        FileExistsError: if the folder holds something.
        ValueError: if there is no document, or `shard_tokens` is below 1.
    """
    folder = Path(folder)
    if shard_tokens < 1:
        raise ValueError(f"shard_tokens must be at least 1, got {shard_tokens}")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; delete it or choose another folder for the shards")
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        shards, sources, rows, starts, length = [], {}, [], [], 0
        for document in documents:
            row = tokenizer.encode(document.text, bos=True, eos=True)
            starts.append(length)
            rows.append(np.array(row, dtype=dtype))
            length += len(row)
            counts = sources.setdefault(document.source, {"documents": 0, "tokens": 0})
            counts["documents"] += 1
            counts["tokens"] += len(row)
            if length >= shard_tokens:
                shards.append(_write_shard(temporary, len(shards), rows, starts))
                rows, starts, length = [], [], 0
        if rows:
            shards.append(_write_shard(temporary, len(shards), rows, starts))
        if not shards:
            raise ValueError("there is no document to write; the iterable was empty or already used up")
        index = {
            "format": FORMAT,
            "dtype": dtype.str,
            "vocab_size": tokenizer.vocab_size,
            "tokenizer_sha256": tokenizer_sha256(tokenizer),
            "sources": sources,
            "shards": shards,
        }
        _write(temporary / "index.json", json.dumps(index).encode())
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return TokenShards(folder)


def tokenizer_sha256(tokenizer: Tokenizer) -> str:
    """Hash of a vocabulary: the same for a tokenizer and for its file read back."""
    return hashlib.sha256(serialize(tokenizer.vocabulary)).hexdigest()


def _write_shard(folder: Path, number: int, rows: list[np.ndarray], starts: list[int]) -> dict[str, Any]:
    """Write one shard; return its line of the index."""
    data, name = np.concatenate(rows).tobytes(), f"shard-{number:05d}.bin"
    _write(folder / name, data)
    tokens = len(data) // rows[0].itemsize
    return {"file": name, "tokens": tokens, "sha256": hashlib.sha256(data).hexdigest(), "documents": starts}


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class TokenShards:
    """The row of tokens in a folder that `write_shards` made. It has a length, and is read by slices.

    Args:
        folder: the folder with `index.json`.

    Attributes:
        vocab_size: number of pieces of the tokenizer.
        tokenizer_sha256: see `tokenizer_sha256`.
        sources: source to its numbers of documents and tokens.
        documents: where each document begins in the row, int64, shape (documents,).
        sha256: one hash of the whole row, from the shards' hashes.

    Raises:
        ValueError: if the index is of another format, or a shard has not the size that the index says.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
        if index.get("format") != FORMAT:
            raise ValueError(
                f"{self.folder}: format {index.get('format')!r}, expected {FORMAT!r}; write the shards anew"
            )
        self.vocab_size: int = index["vocab_size"]
        self.tokenizer_sha256: str = index["tokenizer_sha256"]
        self.sources: dict[str, dict[str, int]] = index["sources"]
        self._shards = index["shards"]
        dtype = np.dtype(index["dtype"])
        self._maps = []
        for shard in self._shards:
            path, expected = self.folder / shard["file"], shard["tokens"] * dtype.itemsize
            if path.stat().st_size != expected:
                raise ValueError(f"{path} has {path.stat().st_size} bytes, expected {expected}; write the shards anew")
            self._maps.append(np.memmap(path, dtype, mode="r"))
        self._ends = np.cumsum([shard["tokens"] for shard in self._shards])
        begins = self._ends - [len(tokens) for tokens in self._maps]
        starts = [np.array(shard["documents"], dtype=np.int64) for shard in self._shards]
        self.documents = np.concatenate([begin + start for begin, start in zip(begins, starts, strict=True)])
        self.sha256 = hashlib.sha256("".join(shard["sha256"] for shard in self._shards).encode()).hexdigest()

    def __len__(self) -> int:
        """Number of tokens."""
        return int(self._ends[-1])

    def __getitem__(self, part: slice) -> np.ndarray:
        """Tokens start .. stop of the row as a new array, whichever shards they lie in."""
        if not isinstance(part, slice):
            raise TypeError(f"the row is read by slices, as in shards[0:64], got {part!r}")
        start, stop, step = part.indices(len(self))
        pieces = []
        for number in range(int(np.searchsorted(self._ends, start, side="right")), len(self._maps)):
            tokens = self._maps[number]
            begin = int(self._ends[number]) - len(tokens)
            if begin >= stop:
                break
            pieces.append(tokens[max(start - begin, 0) : stop - begin])
        return np.concatenate(pieces)[::step] if pieces else np.empty(0, self._maps[0].dtype)

    def document(self, number: int) -> np.ndarray:
        """The tokens of one document, BOS and EOS included."""
        if not 0 <= number < len(self.documents):
            raise IndexError(f"there are {len(self.documents)} documents, got number {number}")
        ends = np.append(self.documents[1:], len(self))
        return self[self.documents[number] : ends[number]]

    def verify(self) -> None:
        """Read everything and compare it with the hashes of the index; `ValueError` names the shard that differs."""
        for shard in self._shards:
            path = self.folder / shard["file"]
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != shard["sha256"]:
                raise ValueError(f"{path} is not what was written (sha256 {found}); write the shards anew")


class Batches:
    """Batches without end: window i is tokens i*T .. i*T + T, the order of windows is drawn anew for every epoch.

    Neighbouring windows share one token, which is the last target of the first and the first input of the second.
    Windows that do not fill a batch at the end of an epoch are left out of that epoch.

    Args:
        shards: the row, or any one-dimensional array of ids.
        batch_size: windows per batch, B, in each process.
        context: tokens that the model sees, T; a window has one more, for the last target.
        seed: decides the order.
        rank: number of this process, below `world_size`.
        world_size: processes that share the work; together they read what one process would with B * world_size.

    Raises:
        ValueError: if an argument is out of range, or the row is too short for one batch.
    """

    def __init__(
        self,
        shards: TokenShards | np.ndarray,
        batch_size: int,
        context: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        if batch_size < 1 or context < 1 or not 0 <= rank < world_size:
            raise ValueError(
                "expected batch_size >= 1, context >= 1 and 0 <= rank < world_size, "
                f"got {batch_size}, {context}, rank {rank} of {world_size}"
            )
        self.shards, self.batch_size, self.context, self.seed = shards, batch_size, context, seed
        self.rank, self.world_size = rank, world_size
        self.windows = (len(shards) - 1) // context
        if self.windows < batch_size * world_size:
            raise ValueError(
                f"{len(shards):,} tokens hold {self.windows} windows of {context} + 1, expected at least one batch of "
                f"{batch_size * world_size}; use more text, a smaller batch or a shorter context"
            )
        self.epoch, self.position = 0, 0  # the next window is number `position` of this epoch's order
        self._drawn: tuple[int, np.ndarray] | None = None

    def order(self, epoch: int) -> np.ndarray:
        """The windows in the order of an epoch, shape (windows,)."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.windows)
        return self._drawn[1]

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Tensor:
        """The next batch of this process, int64, shape (B, T + 1)."""
        together = self.batch_size * self.world_size
        if self.position + together > self.windows:
            self.epoch, self.position = self.epoch + 1, 0
        first = self.position + self.rank * self.batch_size
        chosen = self.order(self.epoch)[first : first + self.batch_size]
        self.position += together
        starts = chosen * self.context
        return torch.from_numpy(np.stack([self.shards[s : s + self.context + 1] for s in starts]).astype(np.int64))

    def state_dict(self) -> dict[str, int | str]:
        """Where the reading stands, and of what: plain numbers and text, for a JSON file."""
        return {"epoch": self.epoch, "position": self.position, **self._identity}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Continue where `state` was taken, on any number of processes.

        Raises:
            ValueError: if the data, the context or the seed differ, with which the order would be another one.
        """
        for name, value in self._identity.items():
            if state[name] != value:
                raise ValueError(f"the saved run read data with {name}={state[name]!r}, these batches have {value!r}")
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    @functools.cached_property
    def _identity(self) -> dict[str, int | str]:
        """What the order of windows depends on."""
        is_array = isinstance(self.shards, np.ndarray)
        data = hashlib.sha256(self.shards.tobytes()).hexdigest() if is_array else self.shards.sha256
        return {"seed": self.seed, "context": self.context, "tokens": len(self.shards), "sha256": data}
