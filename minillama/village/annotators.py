"""People who compare two answers (chapter 13), with errors and in Llama 2's four degrees.

Somebody feels strength x (score of a - score of b) + noise x L with L logistic, and chooses a if that is positive: the
better answer with probability sigmoid(strength x difference / noise), which is the model of Bradley and Terry. How
strongly it is felt, cut in four, is how sure they say they are. That a reward model's accuracy grows with the degree
is therefore built in here.

Does: comparisons under any score; the same annotator says the same of the same pair, in either order.
Does not: tire, disagree by taste or judge several answers at once.
Source: Touvron et al. 2023, section 3.2.1 (two answers, four degrees); Bradley and Terry 1952.
"""

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from minillama.village.draw import Request
from minillama.village.judges import helpfulness

DEGREES = ("negligibly", "slightly", "better", "significantly")  # from unsure to sure
CUTS = (0.6, 1.5, 2.8)  # of the felt difference


@dataclass(frozen=True)
class Annotator:
    """Somebody who compares answers, by `helpfulness`, `safety` or any other score of a request and an answer.

    Attributes:
        strength: how much a difference in score matters.
        noise: scale of the error; 0 for none.
        seed: who it is.
    """

    strength: float = 6.0
    noise: float = 0.6
    seed: int = 0
    score: Callable[[Request, str], float] = helpfulness

    def compare(self, request: Request, a: str, b: str) -> tuple[int, str]:
        """The better of two answers.

        Returns:
            0 for a or 1 for b, and one of `DEGREES`.
        """
        first, second = sorted((a, b))
        digest = hashlib.sha256("\0".join((str(self.seed), *request.lines, first, second)).encode()).digest()
        u = random.Random(digest).uniform(1e-9, 1 - 1e-9)
        felt = self.strength * (self.score(request, first) - self.score(request, second))
        felt += self.noise * math.log(u / (1 - u))
        chosen = first if felt > 0 else second
        return (0 if chosen == a else 1), DEGREES[sum(abs(felt) > cut for cut in CUTS)]

    def agreement(self, difference: float) -> float:
        """The probability that the choice agrees with a true difference in score: the ceiling for a reward model."""
        return 1 / (1 + math.exp(-self.strength * abs(difference) / self.noise)) if self.noise else 1.0
