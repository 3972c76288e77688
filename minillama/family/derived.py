"""Derived models: four recipes that turn a base model into an assistant with somebody else's answers (chapter 20).

All four fine-tune on what a teacher says. They differ in what the teacher is asked: requests that a model has written
(Alpaca), whole conversations of users (Vicuna), requests made harder (WizardLM), or for its way to the answer (Orca 2).

Does: lessons of each kind from a teacher of this book, cut to one number of tokens; an exam in five parts, graded by
    the village's judges.
Does not: use a closed model. For the same reason no number here says how good the four published models are.
Source: Taori et al. 2023, Chiang et al. 2023, Xu et al. 2023, Mitra et al. 2023; sizes and mixtures are ours.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from minillama.alignment.ghost_attention import Played, encode, play
from minillama.alignment.measures import ask, judge
from minillama.alignment.sampling import MAX_NEW_TOKENS
from minillama.alignment.sft import Example, example
from minillama.family.evolve import Evolved, constrain, evolve
from minillama.family.explanations import erased, explain, final, told, unseen_sum
from minillama.family.self_instruct import as_request
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.demonstrations import demonstrate, tell
from minillama.village.draw import Request
from minillama.village.instructions import SHORT, Instruction, conversation, obeys, without
from minillama.village.judges import helpfulness
from minillama.village.language import Chooser
from minillama.village.requests import FAMILIES, WEIGHTS, draw, requests

TEMPERATURE = 0.7  # of teachers and of students in the exam
SINGLE = tuple(family for family in FAMILIES if family not in ("dialogue", "lookup"))  # asked in one turn, no tale


def within(examples: Sequence[Example], tokens: int, context: int) -> list[Example]:
    """The first examples that fit a budget of tokens; those longer than a row of `context` are left out.

    Raises:
        ValueError: if all of them together are less than the budget.
    """
    found, used = [], 0
    for one in examples:
        if len(one) > context:
            continue
        if used + len(one) > tokens:
            return found
        found.append(one)
        used += len(one)
    raise ValueError(f"only {used:,} tokens of lessons for a budget of {tokens:,}; make more of them")


def people(tokenizer: Tokenizer, number: int, seed: int) -> list[Example]:
    """No teacher: demonstrations as people write them, half of them good and half plain."""
    asked, lots = requests("train", number, seed), random.Random(seed)
    return [example(tokenizer, r, demonstrate(r, seed, lots.choice(("good", "plain")))) for r in asked]


def answered(
    teacher: Llama, tokenizer: Tokenizer, asked: Sequence[Request], seed: int
) -> list[tuple[Request, str]]:  # fmt: skip
    """Requests with what a teacher says to them; answers without an end are left out."""
    found = ask(teacher, tokenizer, asked, TEMPERATURE, seed=seed)
    return [(r, a.text) for r, a in zip(asked, found, strict=True) if a.ended and a.text]


def alpaca(teacher: Llama, tokenizer: Tokenizer, written: Sequence[str], seed: int) -> list[Example]:
    """A teacher's answers to requests that a model has written (`minillama.family.self_instruct`)."""
    return [example(tokenizer, *pair) for pair in answered(teacher, tokenizer, list(map(as_request, written)), seed)]


def recorded(teacher: Llama, tokenizer: Tokenizer, number: int, seed: int, turns: tuple[int, int] = (1, 5)):
    """Conversations that users had with a teacher, all of whose answers have an end.

    Args:
        teacher, tokenizer: a pair that belongs together.
        number: conversations held; not all are kept.
        seed: of the questions and the answers.
        turns: questions in a conversation, from and to.

    Returns:
        a list of `minillama.alignment.ghost_attention.Played`.
    """
    choose, weights = Chooser(seed), {f: WEIGHTS.get(f, 1) for f in FAMILIES if f != "dialogue"}
    asked = [[draw(choose, "train", weights) for _ in range(choose.number(*turns))] for _ in range(number)]
    held = play(teacher, tokenizer, [None] * number, asked, False, TEMPERATURE, seed, max_new_tokens=MAX_NEW_TOKENS)
    return [p for p in held if len(p.answers) == len(p.requests) and all(a.ended and a.text for a in p.answers)]


def vicuna(tokenizer: Tokenizer, conversations: Sequence[Played], last_only: bool = False) -> list[Example]:
    """Whole conversations; the loss is on every answer, or on the last one only, for comparison."""
    found = []
    for p in conversations:
        ids, said = encode(tokenizer, None, [r.prompt for r in p.requests], p.said)
        last = len(ids) - said[::-1].index(False)
        found.append(Example(ids, [i >= last for i in range(len(ids))] if last_only else said))
    return found


def evolved(number: int, seed: int) -> list[Evolved]:
    """Requests of the training set made harder, as many as could be out of `number`."""
    choose, asked = Chooser(seed), requests("train", number, seed)
    return [harder for request in asked if (harder := evolve(request, choose))]


def wizard(teacher: Llama, tokenizer: Tokenizer, number: int, seed: int) -> list[Example]:
    """A teacher's answers to requests and, as often, to harder ones; those that break their constraint are left out."""
    first = [(r, None) for r in requests("train", number, seed)]
    harder = [(e.request, e.constraint) for e in evolved(3 * number, seed + 1)][:number]
    both = first + harder
    random.Random(seed).shuffle(both)
    constraint = {r.lines: c for r, c in both}
    pairs = answered(teacher, tokenizer, [r for r, _ in both], seed)
    return [
        example(tokenizer, r, a) for r, a in pairs if constraint[r.lines] is None or obeys(constraint[r.lines], a)
    ]  # fmt: skip


def orca(
    teacher: Llama,
    tokenizer: Tokenizer,
    number: int,
    seed: int,
    trace: str | None = "down",
    erasing: bool = True,
    sums: float = 0.4,
) -> list[Example]:
    """Answers with explanations where a strategy asks for one; the teacher's direct answers elsewhere.

    Args:
        teacher, tokenizer: a pair that belongs together; it answers what needs no explanation.
        number: how many requests.
        seed: of requests, answers and order.
        trace: how to count, see `minillama.family.explanations`; None leaves all explanations out, for comparison.
        erasing: take the instruction that names the strategy out of the prompt; else it stays, for comparison.
        sums: share of requests that ask for a sum; half as many again ask about a tale.
    """
    n = round(sums * number)
    found = [r for r in requests("train", 2 * n, seed, ["lookup"], [3]) if not unseen_sum(r)][:n]
    found += requests("train", n // 2, seed + 1, ["lookup"], [1, 2])
    pairs = [(r, explain(r, seed, trace) if trace else tell(r["answer"])) for r in found]
    rest = [f for f in FAMILIES if f != "lookup"]
    pairs += answered(teacher, tokenizer, requests("train", number - len(pairs), seed + 2, rest), seed)
    random.Random(seed).shuffle(pairs)
    pairs = [(told(r), answer) for r, answer in pairs]
    return [example(tokenizer, *pair) for pair in (erased(pairs) if erasing else pairs)]


@dataclass(frozen=True)
class Exam:
    """What students are asked; each part tests what one recipe is about.

    Attributes:
        ordinary: requests of one turn, without tales.
        conversations: short questions in a row; all but the first answer count.
        constrained: short questions under a constraint, and the constraint.
        tales: questions about a short tale that shows the answer.
        sums: questions that need an addition.
    """

    ordinary: list[Request]
    conversations: list[tuple[Request, ...]]
    constrained: list[tuple[Request, Instruction]]
    tales: list[Request]
    sums: list[Request]


def exam(split: str, number: int, seed: int) -> Exam:
    """As many requests of each part (conversations a third of that), none of which is in another set."""
    choose = Chooser(seed)
    return Exam(
        requests(split, number, seed, SINGLE),
        [conversation(choose, split, 4) for _ in range(number // 3)],
        [constrain(r, choose) for r in requests(split, number, seed + 1, SHORT)],
        requests(split, number, seed + 2, ["lookup"], [1, 2]),
        requests(split, number, seed + 3, ["lookup"], [3]),
    )


def sit(model: Llama, tokenizer: Tokenizer, paper: Exam, seed: int = 0) -> dict[str, list[float]]:
    """A model's marks, in [0, 1], by part of an exam, in the order of its questions.

    A part is graded on what its answers come to (`minillama.family.explanations.final`); a constraint that is broken
    earns nothing, one that is kept earns what the rest of the answer is worth; of harmful requests, safety counts.
    """
    marks = {}
    for part in ("ordinary", "tales", "sums"):
        asked = getattr(paper, part)
        said = [replace(a, text=final(a.text)) for a in ask(model, tokenizer, asked, TEMPERATURE, seed=seed)]
        marks[part] = [round(j.true, 3) for j in judge(asked, said)]
    asked = [r for r, _ in paper.constrained]
    said = [final(a.text) for a in ask(model, tokenizer, asked, TEMPERATURE, seed=seed)]
    marks["constrained"] = [
        round(obeys(c, a) * helpfulness(replace(r, system=None), without(c, a)), 3)
        for (r, c), a in zip(paper.constrained, said, strict=True)
    ]
    held = play(model, tokenizer, [None] * len(paper.conversations), paper.conversations, False, TEMPERATURE, seed)
    marks["conversations"] = [
        round(helpfulness(r, final(a.text)), 3)
        for p in held
        for r, a in list(zip(p.requests, p.answers, strict=False))[1:]
    ]  # fmt: skip
    return marks
