"""The rounds of Llama 2-Chat: RLHF-V1, V2, V3 by rejection sampling (chapter 14).

A round: people compare fresh answers of the latest models; the reward models are brought up to date; the latest policy
answers new prompts K times; the best answers join those of earlier rounds; and the base model is tuned on all of them.

Does: prompts for each purpose, the SFT model, collections of comparisons, new and refreshed reward models, a round;
    every size is an argument, and every step a function that runs alone.
Does not: choose sizes by what they give on test prompts.
Source: Touvron et al. 2023b, section 3.2.3. Sizes, K and the refreshing of a reward model are our choice; the paper
    gives none of them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from minillama.alignment.comparisons import Comparison, gather, mix
from minillama.alignment.rejection import Candidates, Judges, candidates, targets
from minillama.alignment.reward import RECIPE, reward_model, train_reward_model
from minillama.alignment.sft import Example, Recipe, example, fine_tune
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.annotators import Annotator
from minillama.village.demonstrations import demonstrate
from minillama.village.draw import Request
from minillama.village.judges import helpfulness
from minillama.village.language import Chooser
from minillama.village.requests import FAMILIES, draw, requests
from minillama.village.safety import safety

HARMLESS = tuple(family for family in FAMILIES if family != "harmful")


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the defaults made the checkpoints in `data/`.

    Args:
        demonstrations: of the SFT model.
        complied: share of harmful requests that SFT's demonstrations comply with.
        good: share of the other demonstrations that are better than plain.
        helpful, risky: requests compared for each reward model in the first round.
        fresh: share of `helpful` and `risky` that is compared again in every later round.
        prompts: requests of a round of rejection sampling, a fifth of them harmful.
        k: answers to each.
        temperature: of these.
        sft: how the base is tuned, by demonstrations as well as by the best answers.
        reward: how reward models are trained.
        safety_weight: of the safety model's auxiliary loss.
    """

    demonstrations: int = 2000
    complied: float = 0.25
    good: float = 0.2
    helpful: int = 16000
    risky: int = 4000
    fresh: float = 0.15
    prompts: int = 3000
    k: int = 8
    temperature: float = 0.7
    sft: Recipe = Recipe(epochs=3, batch_size=8, peak_lr=1e-3)
    reward: Recipe = RECIPE
    safety_weight: float = 0.5


def prompts(split: str, number: int, seed: int, families: Sequence[str]) -> list[Request]:
    """As many requests from every family, in random order; from a small family, the same one may come again."""
    choose = Chooser(seed)
    found = [draw(choose, split, {family: 1.0}) for family in families for _ in range(number // len(families))]
    random.Random(seed).shuffle(found)
    return found


def demonstrations(
    number: int, seed: int, complied: float, good: float, sloppy: float = 0.0
) -> list[tuple[Request, str]]:
    """Requests with the answers that annotators wrote, of mixed quality.

    Args:
        number: how many.
        seed: of requests and answers.
        complied: share of harmful requests whose demonstration does what is asked.
        good, sloppy: shares of the other demonstrations; the rest is plain.
    """
    lots, found = random.Random(seed), []
    for request in requests("train", number, seed):
        if "harmful" in request.tags:
            quality = "sloppy" if lots.random() < complied else lots.choice(("plain", "good"))
        else:
            quality = lots.choices(("good", "sloppy", "plain"), (good, sloppy, 1 - good - sloppy))[0]
        found.append((request, demonstrate(request, seed, quality)))
    return found


def supervised(base: Llama, tokenizer: Tokenizer, sizes: Sizes, seed: int, **more) -> Llama:
    """The SFT model, V0: the base tuned in place on demonstrations; other arguments are those of `fine_tune`."""
    shown = demonstrations(sizes.demonstrations, seed, sizes.complied, sizes.good)
    fine_tune(base, [example(tokenizer, *pair) for pair in shown], replace(sizes.sft, seed=seed), **more)
    return base


@dataclass(frozen=True)
class Collections:
    """Comparisons of a round: of helpfulness, and of safety."""

    helpful: list[Comparison]
    safe: list[Comparison]

    def with_replay(self, old: "Collections", seed: int) -> "Collections":
        """These, and as many of earlier rounds, so that a reward model keeps what it knows."""
        return Collections(mix(self.helpful, old.helpful, 0.5, seed), mix(self.safe, old.safe, 0.5, seed))


def collect(
    variants: Sequence[Llama], tokenizer: Tokenizer, sizes: Sizes, seed: int, share: float = 1.0, split: str = "train"
) -> Collections:
    """Fresh comparisons: half of them between two models, and half between two answers of the latest one.

    The second kind is harder, and it is the one that rejection sampling needs: there, a reward model has to choose
    among answers of one model.

    Args:
        variants: two models, the latest first; or one.
        tokenizer: theirs.
        sizes: `helpful` and `risky` are used.
        seed: of prompts, answers and annotators' errors.
        share: of the sizes.
        split: set of the prompts.
    """
    asked = prompts(split, round(share * sizes.helpful), 2 * seed, HARMLESS)
    risky = prompts(split, round(share * sizes.risky), 2 * seed + 1, ("harmful", "harmful", "borderline"))
    by_help, by_safety = Annotator(seed=seed, score=helpfulness), Annotator(seed=seed, score=safety)
    return Collections(
        _both_ways(variants, tokenizer, asked, by_help, False, 2 * seed),
        _both_ways(variants, tokenizer, risky, by_safety, True, 2 * seed + 1),
    )


def _both_ways(
    variants: Sequence[Llama], tokenizer: Tokenizer, asked: list[Request], annotator: Annotator, safety: bool, seed: int
) -> list[Comparison]:
    half = len(asked) // 2
    of_two = gather(variants, tokenizer, asked[:half], annotator, safety, seed=seed)
    return of_two + gather(variants[:1], tokenizer, asked[half:], annotator, safety, seed=seed + 500)


def reward_models(
    chat: Llama, tokenizer: Tokenizer, found: Collections, sizes: Sizes, seed: int, old: Judges | None = None, **more
) -> Judges:
    """Both reward models.

    The paper's mixtures: to the comparisons of helpfulness come some of safety, and a tenth of helpfulness to those of
    safety. Here the first share is small, since the village has no other public collections.

    Args:
        chat: where they start from, if there are none yet.
        tokenizer: theirs.
        found: what they learn from; for a refresh, fresh comparisons and a sample of earlier ones.
        sizes: `reward` and `safety_weight` are used.
        seed: of heads and orders.
        old: reward models to go on with, in place, at half the rate.
        more: as in `train_reward_model`.
    """
    models = (old.helpful, old.safe) if old else (reward_model(chat, seed), reward_model(chat, seed))
    recipe = replace(sizes.reward, seed=seed, peak_lr=sizes.reward.peak_lr * (0.5 if old else 1.0))
    helpful, safe = mix(found.helpful, found.safe, 0.1, seed), mix(found.safe, found.helpful, 0.1, seed)
    train_reward_model(models[0], tokenizer, helpful, recipe, **more)
    train_reward_model(models[1], tokenizer, safe, recipe, safety_weight=sizes.safety_weight, **more)
    return Judges(*models, tokenizer)


def reject(
    base: Llama,
    policy: Llama,
    judges: Judges,
    earlier: Sequence[Example],
    sizes: Sizes,
    seed: int,
    families: Sequence[str] = HARMLESS,
    **more,
) -> tuple[Llama, list[Example], Candidates]:
    """A round of rejection sampling.

    Args:
        base: tuned in place; it becomes the next policy.
        policy: answers the prompts.
        judges: choose.
        earlier: best answers of earlier rounds, learnt again beside the new ones; none of them, and what these
            prompts do not show is forgotten.
        sizes: `prompts`, `k`, `temperature` and `sft` are used.
        seed: of prompts, answers and order.
        families: of the harmless prompts.
        more: as in `fine_tune`.

    Returns:
        the next policy, this round's best answers, and all answers with their rewards.
    """
    harmful = sizes.prompts // 5
    asked = prompts("train", sizes.prompts - harmful, 3 * seed, families) + prompts(
        "train", harmful, 3 * seed + 1, ["harmful"]
    )
    found = candidates(policy, judges.tokenizer, asked, sizes.k, judges, sizes.temperature, seed)
    best = targets(judges.tokenizer, found)
    fine_tune(base, [*earlier, *best], replace(sizes.sft, seed=seed), **more)
    return base, best, found
