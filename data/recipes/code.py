"""The tokenizer of code: 1,024 pieces from the library's functions and the village's programs."""

from pathlib import Path

from recipes.common import DATA

from minillama.family.code_corpus import code_corpus
from minillama.family.infilling import PIECES
from minillama.family.programs import programs
from minillama.model.tokenizer import Tokenizer

OUTPUTS = ("code/tokenizer.model",)
SIZE, PROGRAMS = 1024, 3000
ASCII = "".join(map(chr, range(32, 127)))  # every character of a keyboard gets a piece


def main(work: Path, out: Path = DATA) -> None:
    """Train and save."""
    (out / "code").mkdir(exist_ok=True)
    texts = [*code_corpus()["train"], *programs(PROGRAMS), *[ASCII] * 3]
    Tokenizer.train(texts, SIZE, out / OUTPUTS[0], control_pieces=PIECES)
