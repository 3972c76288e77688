"""Explanation traces, as in Orca 2: think first, then answer, and choose how to think (chapter 20).

A teacher is told which strategy to use; the student learns its explanation and its answer, but not the instruction,
which is erased from the prompt. So the student has to choose the strategy by itself, from the request.

Does: three of Orca 2's strategies for the village (step by step, recall then answer, answer directly), with the
    instruction that asks for each; erases it; takes the answer out of an explanation.
Does not: let a model write the explanations. No model of this book can count, so the village's program writes them.
Source: Mitra et al. 2023. Which request gets which strategy, and the words of both, are invented for this book.
"""

from collections.abc import Sequence
from dataclasses import replace

from minillama.village.core import retell
from minillama.village.demonstrations import demonstrate, evidence, tell
from minillama.village.draw import Request
from minillama.village.language import Chooser
from minillama.village.lexicon import NUMBERS

STRATEGIES = {  # what the teacher is told, as a system message
    "step by step": "Count step by step, then answer.",
    "recall then answer": "Say the sentence that shows it, then answer.",
    "direct answer": "Answer directly.",
}
MARK = "Answer: "  # stands before what is meant to be judged


def strategy_of(request: Request) -> str:
    """Which of `STRATEGIES` the teacher is told to use."""
    if request.family != "lookup":
        return "direct answer"
    return "step by step" if counts(request) else "recall then answer"


def counts(request: Request) -> bool:
    """Whether a request asks for a sum."""
    return request.family == "lookup" and request["answer"].kind == "total_goods"


def addends(request: Request) -> tuple[int, int]:
    """The two numbers whose sum is asked for.

    Raises:
        ValueError: if the request does not ask for a sum.
    """
    if not counts(request):
        raise ValueError(f"a request of the family {request.family!r} that asks for no sum: {request.prompt!r}")
    first, second = (e["n"] for e in request["events"])
    return first, second


def unseen_sum(request: Request) -> bool:
    """Whether a sum is one of the quarter of all pairs of numbers that no lesson shows."""
    first, second = addends(request)
    return (first + 2 * second) % 4 == 1


def trace_down(first: int, second: int) -> str:
    """Move one from the second number to the first until none is left: each step needs only the step before."""
    return ", ".join(f"{NUMBERS[first + i]} and {NUMBERS[second - i]}" for i in range(second + 1)) + "."


def trace_up(first: int, second: int) -> str:
    """Count on from the first number: shorter, but to stop, one has to look up the second number again."""
    return ", ".join(f"{NUMBERS[i]} and {NUMBERS[first + i]}" for i in range(1, second + 1)) + "."


TRACES = {"down": trace_down, "up": trace_up}


def explain(request: Request, seed: int = 0, trace: str = "down") -> str:
    """What the teacher says under the strategy of a request: an explanation and the answer, or the answer alone.

    Args:
        request: what is asked.
        seed: of the wording.
        trace: how to count, one of `TRACES`.

    Raises:
        ValueError: for an unknown way to count.
    """
    if trace not in TRACES:
        raise ValueError(f"trace must be one of {tuple(TRACES)}, got {trace!r}")
    strategy = strategy_of(request)
    if strategy == "direct answer":
        return demonstrate(request, seed, "good")
    if strategy == "step by step":
        steps = TRACES[trace](*addends(request))
    else:
        steps = retell([evidence(request)], request["events"], Chooser(seed))
    return f"{steps} {MARK}{tell(request['answer'])}"


def final(answer: str) -> str:
    """What an answer comes to: the text behind the last mark, or all of it if there is none."""
    return answer.rpartition(MARK)[2].strip()


def told(request: Request) -> Request:
    """A request as the teacher gets it: told its strategy, unless it has a system message of its own."""
    return request if request.system else replace(request, system=STRATEGIES[strategy_of(request)])


def erase(request: Request) -> Request:
    """A request as the student gets it: without an instruction that names a strategy; others stay."""
    return replace(request, system=None) if request.system in STRATEGIES.values() else request


def erased(pairs: Sequence[tuple[Request, str]]) -> list[tuple[Request, str]]:
    """Prompt erasing: the teacher's answers behind requests that no longer say how to find them."""
    return [(erase(request), answer) for request, answer in pairs]
