"""Evol-Instruct, as in WizardLM: rewrite a request into a harder one (chapter 20).

In depth: ask for more of the same, or set a condition that the answer must meet. In breadth: another request, as rare
as the first. What cannot be made harder stays out.

Does: deepens three families of requests by the words that make their higher levels; sets one or two constraints out of
    the lasting instructions of chapter 16, as a system message.
Does not: let a model rewrite; the village's program does, so a judge still knows what is asked.
Source: Xu et al. 2023, with two of its kinds of evolution (adding constraints, deepening); the words are the village's.
"""

from dataclasses import dataclass, replace

from minillama.village.draw import Request, make
from minillama.village.families import pronouns
from minillama.village.instructions import Instruction, draw_instruction
from minillama.village.language import Chooser
from minillama.village.lexicon import NUMBERS, PLACES
from minillama.village.requests import split_of


@dataclass(frozen=True)
class Evolved:
    """A harder request.

    Attributes:
        request: as it is asked now; a constraint is its system message.
        constraint: that message as an instruction, or None.
        steps: names of what was done, in order.
    """

    request: Request
    constraint: Instruction | None
    steps: tuple[str, ...]


def deepen(request: Request) -> Request | None:
    """The same request, one step harder, or None if the family has no such step or this was the last one.

    A story gets a place (and a receiver), then an end; a question, two more facts; a list, one more item.
    """
    facts, level = dict(request.facts), request.level
    if request.family == "story" and level < 3:
        draft, prompt = dict(facts["draft"]), request.prompt[:-1]
        if level == 1:
            if facts["action"] == "give":
                prompt, facts["b"] = prompt.replace("somebody", draft["b"]), draft["b"]
            prompt, facts["p"] = f"{prompt} {PLACES[draft['p']][0]}.", draft["p"]
        else:
            prompt, facts["mood"] = f"{prompt}. Let it end {draft['mood']}.", draft["mood"]
    elif request.family == "fact" and level == 1:
        prompt = f"{request.prompt} Tell me two more things about {pronouns(facts['a'])['him']}."
        facts["number"], level = 3, 2  # as level 3 of the family
    elif request.family == "list" and level < 3:
        number = facts["number"]
        prompt = request.prompt.replace(f" {NUMBERS[number]} ", f" {NUMBERS[number + 1]} ", 1)
        facts["number"] = number + 1
    else:
        return None
    return make(request.family, level + 1, prompt, facts, sorted(request.tags - {"held-out"}))


def constrain(request: Request, choose: Chooser) -> tuple[Request, Instruction]:
    """The same request under a condition that a program can check.

    Raises:
        ValueError: if the request has a system message already, which the constraint would replace.
    """
    if request.system:
        raise ValueError(f"the request already has the system message {request.system!r}; evolve another one")
    constraint = draw_instruction(choose)
    return replace(request, system=constraint.text), constraint


def evolve(request: Request, choose: Chooser, constrained: float = 0.5) -> Evolved | None:
    """Make a request of the training set harder, as often as it goes, and keep it in the training set.

    Args:
        request: of one turn, without a system message.
        choose: source of the choices.
        constrained: share that gets a constraint.

    Returns:
        None if nothing made it harder: the evolution is then thrown away.
    """
    if request.system or request.history or "harmful" in request.tags:
        return None
    steps, constraint = [], None
    while (harder := deepen(request)) and split_of(harder) == "train":
        request = harder
        steps.append("deepened")
    if choose.chance(constrained):
        request, constraint = constrain(request, choose)
        steps.append("constrained")
    return Evolved(request, constraint, tuple(steps)) if steps else None
