"""What counting achieves on the texts of the base model: n-grams of one to five tokens, on more and more of them.

All of them are scored on the held-out stories and questions that the logs of the trained models use.
"""

from pathlib import Path

from recipes.common import DATA, bits_per_character, corpus, held_out_stories, save_json, tokenizer
from tqdm import tqdm

from minillama.pretraining.ngram import NGram
from minillama.village.binding import answers, probes

OUTPUTS = ("runs/ngrams.json",)
DOCUMENTS = 190_000  # as many as the base model's
SIZES = (3_000, 12_000, 48_000, DOCUMENTS)
ORDERS = (1, 2, 3, 4, 5)


def main(work: Path, out: Path = DATA) -> None:
    """Count the longest runs once a size; the shorter orders are the first levels of the same counts."""
    shards, tok, stories = corpus(work, DOCUMENTS), tokenizer(), held_out_stories(60)
    questions = [question for story in stories for question in probes(story)]
    rows = []
    for size in tqdm(SIZES, desc="counting", unit="size"):
        longest = NGram(ORDERS[-1], tok.vocab_size).train(shards.document(i) for i in range(size))
        tokens = int(shards.documents[size]) if size < DOCUMENTS else len(shards)
        for order in ORDERS:
            model = NGram(order, tok.vocab_size)
            model.levels = longest.levels[:order]
            right = answers(model, tok, questions)
            rows.append(
                {
                    "order": order,
                    "documents": size,
                    "tokens": tokens,
                    "bits_per_character": round(bits_per_character(model, tok, [s.text for s in stories]), 4),
                    "binding": round(sum(right) / len(right), 4),
                }
            )
    save_json(out / "runs" / "ngrams.json", rows)
