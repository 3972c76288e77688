"""Where the documents of a run come from: a file, a folder, the village, TinyStories (chapter 8).

A corpus is two streams of documents that can be read again and again: what is trained on, and what is held out to
see how good the model is on text that it has not read.

Does: text files, cut into documents, cleaned and rid of exact copies; the village; a download.
Does not: judge the quality of a reader's own text, or look for near copies between the two parts; `problems` and
    `near_duplicates` of `minillama.pretraining.corpus` do.
Source: TinyStories is Eldan and Li 2023, https://huggingface.co/datasets/roneneldan/TinyStories (CDLA-Sharing-1.0).
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from minillama.pretraining.corpus import Document, clean, exact_duplicates, village

SEPARATOR = "<|endoftext|>"  # ends a document in a text file, as in TinyStories
HELD_OUT = 20  # every twentieth document is held out
ENDINGS = (".txt", ".md")


@dataclass(frozen=True)
class Corpus:
    """Documents in two parts.

    Attributes:
        identity: the same for the same documents; what was made from them can then be used again.
        train, held_out: give the documents of a part, anew at every call.
    """

    identity: str
    train: Callable[[], Iterator[Document]]
    held_out: Callable[[], Iterator[Document]]


def open_corpus(data: str, documents: int = 10_000) -> Corpus:
    """The corpus of a name.

    Args:
        data: "village"; "tinystories" (2.2 GB to train on) or "tinystories-small" (22.5 MB), which are downloaded; or
            the path of a text file, or of a folder in which all `.txt` and `.md` files are read.
        documents: number of stories and pages of the village.

    Returns:
        The corpus. A file's documents end at every `<|endoftext|>`. If that gives fewer than twenty in all, they end
        at every blank line too, so that one book is enough. Every twentieth document is held out; of TinyStories, its
        own validation file.

    Raises:
        FileNotFoundError: if there is no such file or folder, or no text file in the folder.
        ConnectionError: if the download fails.
        ValueError: if there are fewer than twenty documents, or a file is not UTF-8.
    """
    if data == "village":
        if documents < HELD_OUT:
            raise ValueError(f"documents must be at least {HELD_OUT}, one of which is held out; got {documents}")
        texts = functools.cache(lambda: [document.text for document in village(documents)])
        return _split(hashlib.sha256("".join(texts()).encode()).hexdigest(), _distinct(texts), "village")
    if data == "tinystories":
        train, held_out = ([download_tinystories(part)] for part in ("train", "valid"))
        identity = _identity([*train, *held_out])
        return Corpus(identity, _documents(_files(train), data), _documents(_files(held_out), data))
    path = download_tinystories("valid") if data == "tinystories-small" else Path(data)
    files = text_files(path)
    kept = _files(files)
    if _count(kept) < HELD_OUT:
        kept = _files(files, at_blank_lines=True)
    if (count := _count(kept)) < HELD_OUT:
        raise ValueError(
            f"{path}: {count} documents are too few to hold one in {HELD_OUT} out; add text, or separate documents by "
            f"{SEPARATOR} or a blank line"
        )
    return _split(_identity(files), kept, path.name)


def download_tinystories(part: str) -> Path:
    """One file of TinyStories, version 2, from the Hugging Face hub, which keeps it in its cache.

    The tests have no network and put their own function in this one's place.

    Args:
        part: "train" (2.2 GB) or "valid" (22.5 MB).

    Raises:
        ConnectionError: if the file is not in the cache and cannot be had.
    """
    from huggingface_hub import hf_hub_download  # slow to import, and only needed here

    name = f"TinyStoriesV2-GPT4-{part}.txt"
    try:
        return Path(hf_hub_download("roneneldan/TinyStories", name, repo_type="dataset"))
    except Exception as error:  # the hub's client raises its own, its HTTP library's and the system's
        raise ConnectionError(
            f"{name} of TinyStories cannot be downloaded ({type(error).__name__}); without a network, copy the file "
            "here from elsewhere and pass its path, or use the village"
        ) from error


def text_files(path: Path) -> list[Path]:
    """The file itself, or all text files in a folder and below it, in the order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; expected text, 'village' or 'tinystories'")
    files = sorted(file for file in path.rglob("*") if file.suffix in ENDINGS and file.is_file())
    if not files:
        raise FileNotFoundError(f"{path}: no file in it ends in {' or '.join(ENDINGS)}")
    return files


def read_documents(file: Path, at_blank_lines: bool = False) -> Iterator[str]:
    """The cleaned documents of a file that are not empty; the file is never held in memory as a whole."""
    lines: list[str] = []
    with open(file, encoding="utf-8") as opened:
        try:
            for line in opened:
                *ends, rest = line.split(SEPARATOR)
                if at_blank_lines and not line.strip():
                    ends = [""]
                for end in ends:
                    yield from filter(None, [clean("".join(lines) + end)])
                    lines = []
                lines.append(rest)
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); convert it") from error
    yield from filter(None, [clean("".join(lines))])


def _files(files: Sequence[Path], at_blank_lines: bool = False) -> Callable[[], Iterator[str]]:
    return _distinct(lambda: (text for file in files for text in read_documents(file, at_blank_lines)))


def _distinct(texts: Callable[[], Iterable[str]]) -> Callable[[], Iterator[str]]:
    """The texts without exact copies of earlier ones; which those are is found in a first reading."""
    copies = functools.cache(lambda: exact_duplicates(texts()))
    return lambda: (text for number, text in enumerate(texts()) if number not in copies())


def _documents(texts: Callable[[], Iterator[str]], source: str) -> Callable[[], Iterator[Document]]:
    return lambda: (Document(text, source) for text in texts())


def _split(identity: str, texts: Callable[[], Iterator[str]], source: str) -> Corpus:
    def part(held_out: bool) -> Callable[[], Iterator[str]]:
        return lambda: (text for n, text in enumerate(texts(), 1) if (n % HELD_OUT == 0) == held_out)

    return Corpus(f"{source}: {identity}", _documents(part(False), source), _documents(part(True), source))


def _count(texts: Callable[[], Iterator[str]]) -> int:
    return len(list(islice(texts(), HELD_OUT)))


def _identity(files: Sequence[Path]) -> str:
    """Hash of the files' names and contents."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as opened:
            digest.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
