"""What 1,000 stories of the base model copy from the text that it was trained on.

The yardstick is text that cannot have been copied: held-out stories, which share runs with the training text because
the village repeats its phrases. An n-gram model, which can only repeat what it has counted, is the other end.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from recipes.common import DATA, HELD_OUT, corpus, load_base, save_json, tokenizer
from tqdm import tqdm

from minillama.model.generation import generate
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.memorisation import longest_copied_run
from minillama.pretraining.ngram import NGram
from minillama.village.stories import Story, tell

OUTPUTS = ("runs/memorisation.json",)
DOCUMENTS = 190_000  # as many as the base model's
STORIES, BATCH, TEMPERATURE, LONGEST = 1000, 50, 0.7, 240
FIRST = HELD_OUT + 10**6  # held-out stories from here on lend their titles, and are the yardstick
ORDER = 5  # of the n-gram model that also writes


def titled(number: int) -> list[Story]:
    """Held-out stories that have a title."""
    found, seed = [], FIRST
    while len(found) < number:
        story = tell(seed)
        found += [story] if story.title else []
        seed += 1
    return found


def write(model: Llama | NGram, tok: Tokenizer, titles: Sequence[str]) -> list[list[int]]:
    """The tokens of one sampled story a title, in the model's own words."""
    prompts = [tok.encode(title + "\n", bos=True) for title in titles]
    if isinstance(model, NGram):
        dice = np.random.default_rng(0)
        return [model.sample(prompt, LONGEST, dice, (tok.eos_id,)) for prompt in tqdm(prompts, desc="n-gram stories")]
    dice, rows = torch.Generator().manual_seed(0), []
    for start in tqdm(range(0, len(prompts), BATCH), desc=f"batches of {BATCH} stories"):
        some = prompts[start : start + BATCH]
        done = generate(model, some, LONGEST, TEMPERATURE, top_p=1.0, stop_tokens=(tok.eos_id,), generator=dice)
        rows += [[token for token in story.tokens if token != tok.eos_id] for story in done]
    return rows


def main(work: Path, out: Path = DATA) -> None:
    """Sample, count the n-grams, look for copies, save."""
    torch.set_num_threads(1)
    base, tok, shards = load_base(), tokenizer(), corpus(work, DOCUMENTS)
    documents = np.split(shards[:].astype(np.int64), shards.documents[1:])
    counted = NGram(ORDER, tok.vocab_size).train(documents)
    yardstick = titled(STORIES)
    titles = [story.title for story in yardstick]
    bodies = [len(tok.encode(f"{story.title}\n", bos=True)) for story in yardstick]
    rows = {
        "base": write(base, tok, titles),
        "n-gram": write(counted, tok, titles),
        "held-out": [tok.encode(s.text, bos=True)[start:] for s, start in zip(yardstick, bodies, strict=True)],
    }
    inner = (row[1:-1] for row in tqdm(documents, desc="looking for copies", unit="document"))  # no BOS, no EOS
    runs = longest_copied_run([row for some in rows.values() for row in some], inner)
    known = set()  # stories, with and without their titles
    for row in documents[::2]:  # `village` writes a story, a page, a story, and so on
        text = tok.decode(row[1:-1].tolist()).strip()
        known |= {text, text.partition("\n")[2]}
    found = {}
    for place, (name, some) in enumerate(rows.items()):
        theirs = runs[place * STORIES : (place + 1) * STORIES]
        texts = [tok.decode(row).strip() for row in some]
        longest = max(range(STORIES), key=lambda number: theirs[number].length)
        start, length = theirs[longest].start, theirs[longest].length
        found[name] = {
            "exact_copies": [text for text in texts if text in known],
            "tokens": [len(row) for row in some],
            "longest_runs": [run.length for run in theirs],
            "longest": {
                "title": titles[longest],
                "text": texts[longest],
                "run": tok.decode(some[longest][start : start + length]).strip(),
            },
        }
        print(f"{name}: {len(found[name]['exact_copies'])} exact copies, longest run {length} tokens", flush=True)
    settings = {"documents": DOCUMENTS, "tokens": len(shards), "stories": STORIES, "temperature": TEMPERATURE}
    save_json(out / "runs" / "memorisation.json", {**settings, "n-gram order": ORDER, **found})
