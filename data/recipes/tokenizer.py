"""The book's tokenizer: 2,048 pieces from the village's texts, with the marks of the chat template among them."""

from pathlib import Path

from recipes.common import DATA

from minillama.model.tokenizer import Tokenizer
from minillama.pretraining.corpus import village

OUTPUTS = ("tokenizer.model",)
DOCUMENTS, PIECES = 12_000, 2048
MARKS = "[INST] <<SYS>>\n<</SYS>>\n\n [/INST]\n"  # of Llama 2's prompts; plain text there as here, so learned as text
ASCII = "".join(map(chr, range(32, 127)))  # every character of a keyboard gets a piece


def main(work: Path, out: Path = DATA) -> None:
    """Train and save."""
    texts = [document.text for document in village(DOCUMENTS)]
    Tokenizer.train([*texts, *[MARKS] * 300, *[ASCII] * 3], PIECES, out / "tokenizer.model")
