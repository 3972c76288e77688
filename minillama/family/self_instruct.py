"""Self-instruct, as in Alpaca: a model writes new requests after a few seeds, and a teacher answers them (chapter 20).

A base model that goes on with a page of requests and answers writes another request. What is no request, is known
already or belongs to the test set is thrown away.

Does: pages of seeds; new requests of a base model, filtered and counted.
Does not: ask for requests with several turns or system messages; compare by ROUGE, as self-instruct does: the village's
    requests are so much alike that only equal ones are dropped.
Source: Wang et al. 2023 (self-instruct); Taori et al. 2023 (Alpaca). In both the teacher writes the requests; here the
    base does, because the book's chat models have only learnt to answer.
"""

from collections import Counter
from collections.abc import Sequence

from minillama.alignment.chat import find_tag
from minillama.alignment.sampling import sample
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.demonstrations import demonstrate
from minillama.village.draw import Request, make
from minillama.village.language import Chooser
from minillama.village.requests import requests, split_of

SHOWN = 3  # seeds on a page


def seed_requests(number: int, seed: int) -> list[tuple[Request, str]]:
    """A few requests of one turn that people wrote, with their answers; none of them is harmful."""
    asked = [r for r in requests("train", 3 * number, seed) if not (r.system or r.history or "harmful" in r.tags)]
    return [(request, demonstrate(request, seed)) for request in asked[:number]]


def page(seeds: Sequence[tuple[Request, str]]) -> str:
    """Requests and answers as the base has read them: a line each, and an empty line between two pairs."""
    return "".join(f"{request.prompt}\n{answer}\n\n" for request, answer in seeds)


def why_not(text: str, known: Sequence[str], seeds: Sequence[str]) -> str | None:
    """Why a text is not taken as a new request, or None if it is.

    Args:
        text: a line that a model wrote.
        known: requests that there are already.
        seeds: prompts that show how a request begins.
    """
    if not text or find_tag(text) or text.split()[0] not in {seed.split()[0] for seed in seeds}:
        return "no request"
    if text in known:
        return "known"
    return None if split_of(as_request(text)) == "train" else "of the test or validation set"


def as_request(text: str) -> Request:
    """A request of which nothing is known but its words, so no judge can grade an answer to it."""
    return make("written", 1, text, {})


def write_requests(
    base: Llama, tokenizer: Tokenizer, seeds: Sequence[tuple[Request, str]], pages: int, seed: int = 0
) -> tuple[list[str], Counter]:
    """New requests, one from each page at most.

    Args:
        base: a model that goes on with pages.
        tokenizer: its own.
        seeds: at least `SHOWN`.
        pages: how many are begun.
        seed: of the pages and of what is sampled.

    Returns:
        the requests, and how often each reason of `why_not` kept a line out.
    """
    choose, prompts = Chooser(seed), []
    for _ in range(pages):
        left = list(seeds)
        shown = [left.pop(choose.number(0, len(left) - 1)) for _ in range(SHOWN)]
        prompts.append(tokenizer.encode(page(shown), bos=True))
    written = sample(base, tokenizer, prompts, 0.8, seed=seed)
    first = [pair[0].prompt for pair in seeds]
    found, reasons = dict.fromkeys(first), Counter()
    for answer in written:
        text = answer.text.split("\n")[0].strip()
        reason = why_not(text, found, first)
        reasons[reason or "taken"] += 1
        if reason is None:
            found[text] = None
    return list(found)[len(first) :], reasons
