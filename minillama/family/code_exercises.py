"""Programming exercises with tests, and learning from one's own solutions that pass (chapter 19).

An exercise asks for a function of a list, made of a few steps. A model gives ten solutions; they are run on the tests;
the first one that passes is learnt. No person, and no larger model, says what the solution is.

Does: exercises without end from twelve steps and eight endings, each said in several ways; compositions that are never
    trained on; samples of solutions and their verdicts; the paper's choice of training data; pass@k without bias.
Does not: let the model write the questions and the tests, as the paper does; here they come from a program, so that no
    test is wrong.
Source: Roziere et al. 2023, section 2.5; Chen et al. 2021, section 2.1 (pass@k).
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import comb

from tqdm import tqdm

from minillama.alignment.chat import encode_dialogue, encode_prompt
from minillama.alignment.packing import pack
from minillama.alignment.sampling import sample
from minillama.alignment.sft import Example, Recipe, fine_tune
from minillama.family.sandbox import Case, Sandbox, Verdict
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

# what is said, what is written, what it does
Step = tuple[tuple[str, ...], str, Callable]
STEPS: tuple[Step, ...] = (
    (("reverse the list", "turn the list around", "flip the order"), "xs[::-1]", lambda xs: xs[::-1]),
    (("sort the list", "put the items in order", "order the items from small to large"), "sorted(xs)", sorted),
    (("drop the first item", "leave out the first item", "remove the item at the start"), "xs[1:]", lambda xs: xs[1:]),
    (("drop the last item", "leave out the last item", "remove the item at the end"), "xs[:-1]", lambda xs: xs[:-1]),
    (("take every second item", "skip every other item"), "xs[::2]", lambda xs: xs[::2]),
    (("double each item", "multiply each item by two"), "[2 * x for x in xs]", lambda xs: [2 * x for x in xs]),
    (("square each item", "multiply each item by itself"), "[x * x for x in xs]", lambda xs: [x * x for x in xs]),
    (("add one to each item", "increase each item by one"), "[x + 1 for x in xs]", lambda xs: [x + 1 for x in xs]),
    (("negate each item", "change the sign of each item"), "[-x for x in xs]", lambda xs: [-x for x in xs]),
    (
        ("keep the even items", "remove the odd items"),
        "[x for x in xs if x % 2 == 0]",
        lambda xs: [x for x in xs if x % 2 == 0],
    ),
    (
        ("keep the odd items", "remove the even items"),
        "[x for x in xs if x % 2 == 1]",
        lambda xs: [x for x in xs if x % 2 == 1],
    ),
    (
        ("keep the positive items", "remove items that are not above zero"),
        "[x for x in xs if x > 0]",
        lambda xs: [x for x in xs if x > 0],
    ),
)
ENDINGS: tuple[Step, ...] = (
    (("the sum", "the total", "all items added up"), "sum(xs)", sum),
    (("the length", "the number of items", "how many items there are"), "len(xs)", len),
    (("the largest item", "the maximum"), "max(xs, default=0)", lambda xs: max(xs, default=0)),
    (("the smallest item", "the minimum"), "min(xs, default=0)", lambda xs: min(xs, default=0)),
    (("the first item", "the item at the start"), "xs[0] if xs else 0", lambda xs: xs[0] if xs else 0),
    (("the last item", "the item at the end"), "xs[-1] if xs else 0", lambda xs: xs[-1] if xs else 0),
    (("the list", "what is left"), "xs", lambda xs: xs),
    (("how often zero occurs", "the number of zeros"), "xs.count(0)", lambda xs: xs.count(0)),
)
FUNCTION = "f"
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Exercise:
    """A question, a solution that somebody may or may not be shown, and the tests.

    Attributes:
        question: in words.
        solution: text of a function `f`.
        cases: arguments and results.
        makeup: numbers of the steps and, last, of the ending.
    """

    question: str
    solution: str
    cases: tuple[Case, ...]
    makeup: tuple[int, ...]

    def with_cases(self, lists: Iterable[list[int]]) -> "Exercise":
        """The same exercise, tested on other lists."""
        return replace(self, cases=tuple(Case((xs,), _result(self.makeup, xs)) for xs in lists))


def program(makeup: Sequence[int]) -> str:
    """The text of the function with these steps and this ending."""
    lines = [f"    xs = {STEPS[i][1]}\n" for i in makeup[:-1]]
    return f"def {FUNCTION}(xs):\n{''.join(lines)}    return {ENDINGS[makeup[-1]][1]}"


def part_of(makeup: Sequence[int]) -> str:
    """The part that a composition belongs to, by its hash: of ten, two are for testing and one for validation."""
    number = hashlib.sha256(bytes(makeup)).digest()[0] % 10
    return "test" if number < 2 else "valid" if number == 2 else "train"


def exercises(number: int, part: str = "train", seed: int = 0, tests: int = 8) -> list[Exercise]:
    """Exercises of one or two steps and an ending, no question twice.

    Args:
        number: how many.
        part: "train", "valid" or "test"; a composition of steps belongs to one of them only.
        seed: which ones.
        tests: cases of each; the first is the empty list, unless there is one case only.

    Raises:
        ValueError: for an unknown part, or if `number` or `tests` is below 1.
    """
    if part not in PARTS or number < 1 or tests < 1:
        raise ValueError(
            f"expected a part of {PARTS} and at least one exercise and test, got {part!r}, {number}, {tests}"
        )
    dice, found = random.Random(f"{part} {seed}"), {}
    while len(found) < number:
        makeup = (*(dice.randrange(len(STEPS)) for _ in range(dice.randint(1, 2))), dice.randrange(len(ENDINGS)))
        if part_of(makeup) != part:
            continue
        said = [dice.choice(STEPS[i][0]) for i in makeup[:-1]]
        question = f"{', then '.join(said)}, and return {dice.choice(ENDINGS[makeup[-1]][0])}."
        question = question[0].upper() + question[1:]
        lists = [[dice.randint(-9, 9) for _ in range(dice.randint(1, 8))] for _ in range(tests)]
        if tests > 1:
            lists[0] = []
        found.setdefault(question, Exercise(question, program(makeup), (), makeup).with_cases(lists))
    return list(found.values())


def _result(makeup: Sequence[int], xs: list[int]) -> object:
    for i in makeup[:-1]:
        xs = STEPS[i][2](xs)
    return ENDINGS[makeup[-1]][2](xs)


def programs(number: int, seed: int = 0) -> Iterator[str]:
    """Functions without a question, of the compositions to train on: what a code model has read before."""
    dice = random.Random(f"programs {seed}")
    while number > 0:
        makeup = (*(dice.randrange(len(STEPS)) for _ in range(dice.randint(1, 2))), dice.randrange(len(ENDINGS)))
        if part_of(makeup) == "train":
            number -= 1
            yield program(makeup)


def vocabulary(pieces: int) -> Tokenizer:
    """A tokenizer for these questions and functions, in the dialogue format of chapter 12."""
    asked = [f"[INST] {exercise.question} [/INST]" for exercise in exercises(400)]
    return Tokenizer.train([*programs(800), *asked], pieces)


def _asked(exercise: Exercise) -> list:
    return [{"role": "user", "content": exercise.question}]


def lesson(tokenizer: Tokenizer, exercise: Exercise, solution: str) -> Example:
    """A question with a solution, as an example of supervised fine-tuning."""
    tokens, said = encode_dialogue(tokenizer, [*_asked(exercise), {"role": "assistant", "content": solution}])
    return Example(tokens, said)


def read(tokenizer: Tokenizer, text: str) -> Example:
    """A function on its own, every token of which is learnt: the next token as in pretraining."""
    tokens = tokenizer.encode(text, bos=True, eos=True)
    return Example(tokens, [True] * len(tokens))


def tune_for(
    model: Llama, lessons: Sequence[Example], steps: int, recipe: Recipe, progress: bool = True
) -> list[float]:
    """`fine_tune` for a number of steps, whatever the number of lessons, so that more data is not more training."""
    rows = len(pack([len(example) for example in lessons], recipe.context))
    epochs = steps / -(-rows // recipe.batch_size)
    return fine_tune(model, lessons, replace(recipe, epochs=epochs), progress=progress)


def attempts(
    model: Llama,
    tokenizer: Tokenizer,
    asked: Sequence[Exercise],
    number: int = 10,
    temperature: float = 0.8,
    seed: int = 0,
    progress: bool = False,
) -> list[list[str]]:
    """`number` solutions of each exercise, sampled."""
    prompts = [encode_prompt(tokenizer, _asked(exercise)) for exercise in asked for _ in range(number)]
    said = sample(model, tokenizer, prompts, temperature, max_new_tokens=100, seed=seed, progress=progress)
    texts = [answer.text for answer in said]
    return [texts[i : i + number] for i in range(0, len(texts), number)]


def judged(
    sandbox: Sandbox, asked: Sequence[Exercise], given: Sequence[Sequence[str]], progress: bool = False
) -> list[list[Verdict]]:
    """The verdict on each solution of each exercise; equal texts of one exercise are run once."""
    verdicts = []
    pairs = zip(asked, given, strict=True)
    for exercise, solutions in tqdm(pairs, total=len(asked), unit="exercise", desc="testing", disable=not progress):
        known = {text: sandbox.test(text, FUNCTION, exercise.cases) for text in dict.fromkeys(solutions)}
        verdicts.append([known[text] for text in solutions])
    return verdicts


def first_passing(given: Sequence[Sequence[str]], verdicts: Sequence[Sequence[Verdict]]) -> dict[int, str]:
    """The first solution that passed, by the number of its exercise; exercises without one are left out."""
    chosen = {}
    for number, (solutions, row) in enumerate(zip(given, verdicts, strict=True)):
        for text, verdict in zip(solutions, row, strict=True):
            if verdict.passed:
                chosen.setdefault(number, text)
    return chosen


def pass_at_k(samples: int, passed: int, k: int) -> Fraction:
    """Chance that at least one of k samples passes, from more samples of which some passed; without bias, exact.

    Of all ways to choose k of the n samples, those that avoid the c good ones are C(n - c, k) of C(n, k).

    Args:
        samples: n.
        passed: c.
        k: at most n.

    Raises:
        ValueError: unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= passed <= samples or not 1 <= k <= samples:
        raise ValueError(f"expected 0 <= passed <= samples and 1 <= k <= samples, got {passed}, {samples}, k = {k}")
    return 1 - Fraction(comb(samples - passed, k), comb(samples, k))
