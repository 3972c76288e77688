"""Speed of the tokenizer: training and encoding, against a plain BPE, `sentencepiece` and `tokenizers`.

Run `python benchmarks/tokenizer.py` (about two minutes).

The text is the source of the running Python's standard library: 4 MB to train on, 1 MB more to encode. The times are
processor time of this process with one thread; the contestants take turns, and the median of the rounds is reported as
a ratio. The plain BPE (count all pairs, replace the best one, start over: the way of minbpe and of the chapter) would
take hours, so it is run for a few merges on a small part and scaled up by text length and number of merges.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import io
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from minillama.model.bpe import NORMAL, Vocabulary, train_bpe
from minillama.model.bpe_encoder import BPEEncoder
from minillama.model.sentencepiece_file import serialize
from minillama.model.tokenizer import Tokenizer

VOCAB_SIZE = 4096
PLAIN_BYTES, PLAIN_MERGES = 200_000, 20


def standard_library(skip: int, size: int) -> list[str]:
    """`size` bytes of whole Python files, in the order of their names, after the first `skip` bytes."""
    texts, seen = [], 0
    for path in sorted(Path(os.__file__).parent.glob("**/*.py")):
        if "site-packages" in path.parts or "test" in path.parts or "idlelib" in path.parts:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        seen += len(text.encode())
        if seen > skip:
            texts.append(text)
        if seen >= skip + size:
            break
    return texts


def plain_training(text: str, n_merges: int) -> None:
    """BPE as one writes it the first time: on bytes, every pair counted anew for every merge."""
    ids = list(text.encode())
    for new in range(256, 256 + n_merges):
        pair = Counter(zip(ids, ids[1:], strict=False)).most_common(1)[0][0]
        out, i = [], 0
        while i < len(ids):
            joined = tuple(ids[i : i + 2]) == pair
            out.append(new if joined else ids[i])
            i += 2 if joined else 1
        ids = out


def sentencepiece_training(texts: list[str]) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in texts for line in text.split("\n")]), model_writer=io.BytesIO(),
        model_type="bpe", vocab_size=VOCAB_SIZE, character_coverage=1.0, split_digits=True, byte_fallback=True,
        allow_whitespace_only_pieces=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        max_sentence_length=10**6, num_threads=1, minloglevel=2,
    )  # fmt: skip


def tokenizers_training(texts: list[str]) -> None:
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, show_progress=False, max_token_length=16)
    tokenizer.train_from_iterator([line for text in texts for line in text.split("\n")], trainer)


def as_fast_tokenizer(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    """The same vocabulary for `tokenizers`, configured as Llama 2 is there.

    It merges by a list of pairs: every way to make a piece from two others, in the order of the scores.
    """
    ids = {piece.text: i for i, piece in enumerate(vocabulary.pieces)}
    joinable = {piece.text for piece in vocabulary.pieces if piece.kind == NORMAL}
    merges = [
        (piece.text[:cut], piece.text[cut:])
        for piece in sorted(vocabulary.pieces, key=lambda piece: -piece.score)
        if piece.kind == NORMAL
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in joinable and piece.text[cut:] in joinable
    ]
    model = models.BPE(vocab=ids, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    fast = tokenizers.Tokenizer(model)
    fast.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return fast


def compare(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor seconds of each contestant; in every round each has its turn."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def report(title: str, seconds: dict[str, float], own: str, size: int) -> None:
    print(f"\n{title}")
    for name, value in seconds.items():
        speed, ratio = size / 1e6 / value, value / seconds[own]
        print(f"  {name:<46} {value:9.3f} s {speed:8.3g} MB/s {ratio:9.2f} x the time of {own}")


def main() -> None:
    corpus, unseen = standard_library(0, 4_000_000), standard_library(4_200_000, 1_000_000)
    size = sum(len(text.encode()) for text in corpus)
    versions = {"sentencepiece": sentencepiece.__version__, "tokenizers": tokenizers.__version__}
    print(f"Python {sys.version.split()[0]}, {versions}")

    part = "".join(corpus)[:PLAIN_BYTES]
    seconds = compare(
        {
            "ours": lambda: train_bpe(corpus, VOCAB_SIZE),
            "sentencepiece (C++)": lambda: sentencepiece_training(corpus),
            "tokenizers (Rust)": lambda: tokenizers_training(corpus),
            "plain": lambda: plain_training(part, PLAIN_MERGES),
        },
        rounds=3,
    )
    scale = size / len(part.encode()) * (VOCAB_SIZE - 256) / PLAIN_MERGES
    seconds["plain BPE, scaled up (text shrinks: too high)"] = seconds.pop("plain") * scale
    report(f"Training {VOCAB_SIZE} pieces on {size / 1e6:.1f} MB", seconds, "ours", size)

    vocabulary = train_bpe(corpus, VOCAB_SIZE)
    size = sum(len(text.encode()) for text in unseen)
    library, warm = Tokenizer(vocabulary), BPEEncoder(vocabulary)
    fast = as_fast_tokenizer(vocabulary)
    reference = sentencepiece.SentencePieceProcessor(model_proto=serialize(vocabulary))
    expected = [reference.encode(text) for text in unseen]
    agreement = {
        "Tokenizer": [library.encode(text) for text in unseen],
        "BPEEncoder": [warm.encode(text) for text in unseen],
        "tokenizers": [fast.encode(text).ids for text in unseen],
    }
    print("\nfiles with the ids of sentencepiece: ", end="")
    print(", ".join(f"{name} {sum(map(list.__eq__, ids, expected))}/{len(unseen)}" for name, ids in agreement.items()))
    seconds = compare(
        {
            "Tokenizer": lambda: [library.encode(text) for text in unseen],
            "BPEEncoder, all words seen before": lambda: [warm.encode(text) for text in unseen],
            "BPEEncoder, no word seen before": lambda: list(map(BPEEncoder(vocabulary).encode, unseen)),
            "BPEEncoder, no memory": lambda: list(map(BPEEncoder(vocabulary, use_cache=False).encode, unseen)),
            "tokenizers (Rust)": lambda: [fast.encode(text).ids for text in unseen],
        },
        rounds=5,
    )
    report(f"Encoding {size / 1e6:.1f} MB of files not trained on", seconds, "Tokenizer", size)


if __name__ == "__main__":
    main()
