"""Reward models: a chat model that grades instead of answering (chapter 13).

The head that gives logits is replaced by one that gives a single number, read at the end of the answer. Trained on
comparisons, the number becomes a score whose differences say which answer people would choose.

Does: the ranking loss with the paper's margins, an auxiliary loss on labels of safety, scores of many answers at once,
    accuracy by degree. Helpfulness and safety are two models, made by the same functions.
Does not: know the truth: it has only seen choices. The paper does not print its auxiliary loss; ours is cross-entropy.
Source: Touvron et al. 2023b, section 3.2.2, eq. 1 and 2, tables 27 to 29; Bradley and Terry 1952.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillama.alignment.chat import encode_prompt, messages
from minillama.alignment.comparisons import Comparison
from minillama.alignment.packing import packed
from minillama.alignment.sampling import Answer
from minillama.alignment.sft import Epochs, Recipe, tune
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.annotators import DEGREES
from minillama.village.draw import Request

MARGINS = {  # of "negligibly", "slightly", "better", "significantly"; table 27
    "none": (0.0, 0.0, 0.0, 0.0),
    "small": (0.0, 1 / 3, 2 / 3, 1.0),
    "large": (0.0, 1.0, 2.0, 3.0),
}

RECIPE = Recipe(epochs=1, batch_size=16, peak_lr=5e-4)  # the paper's: 1 epoch, 512 pairs, 1e-5


def reward_model(chat: Llama, seed: int = 0) -> Llama:
    """A copy of a chat model with a new head of one output, whose weights are small and random."""
    model = Llama(replace(chat.config, n_outputs=1)).to(chat.tok_embeddings.weight)
    body = {name: weight for name, weight in chat.state_dict().items() if name != "output.weight"}
    model.load_state_dict(body, strict=False)
    with torch.no_grad():
        head = torch.empty(1, chat.config.dim).normal_(
            0, chat.config.dim**-1, generator=torch.Generator().manual_seed(seed)
        )
        model.output.weight.copy_(head)
    return model


def scores(model: nn.Module, sequences: Sequence[Sequence[int]], context: int = 256) -> Tensor:
    """The score of each sequence, read at its last token.

    Sequences share rows and do not see each other, so a score does not depend on what else is scored.

    Args:
        model: a reward model.
        sequences: prompt and answer, as token ids.
        context: tokens of a row, at least the longest sequence.

    Returns:
        shape (len(sequences),).
    """
    tokens, documents, ends = packed(sequences, context)
    device = next(model.parameters()).device
    values = model(tokens.to(device), documents=documents.to(device)).squeeze(-1)  # (rows, T)
    row, column = torch.tensor(ends, device=device).unbind(-1)
    return values[row, column]


def sequence(tokenizer: Tokenizer, request: Request, answer: Answer) -> list[int]:
    """What a reward model reads: the prompt in the chat template, and the answer as it was sampled."""
    return encode_prompt(tokenizer, messages(request)) + list(answer.tokens)


@torch.inference_mode()
def grade(
    model: Llama,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    answers: Sequence[Answer],
    batch_size: int = 256,
    context: int = 256,
) -> Tensor:
    """Scores of answers to requests, as logits, shape (len(answers),); the sigmoid of one is the paper's R."""
    if len(requests) != len(answers):
        raise ValueError(f"expected one answer to each request, got {len(answers)} to {len(requests)}")
    found = [torch.empty(0)]
    for start in range(0, len(answers), batch_size):
        part = slice(start, start + batch_size)
        texts = [sequence(tokenizer, *pair) for pair in zip(requests[part], answers[part], strict=True)]
        found.append(scores(model, texts, context).cpu())
    return torch.cat(found)


@dataclass(frozen=True)
class Pairs:
    """A batch of comparisons.

    Attributes:
        sequences: token ids of the chosen answers with their prompts, then of the rejected ones.
        margins: shape (B,).
        safe: labels of all 2 B answers, 1 or 0; nan where there is none.
    """

    sequences: list[list[int]]
    margins: Tensor
    safe: Tensor

    def to(self, device: str | torch.device) -> "Pairs":
        """The same on a device; the ids are moved when they are packed."""
        return Pairs(self.sequences, self.margins.to(device), self.safe.to(device))


def pairs(tokenizer: Tokenizer, comparisons: Sequence[Comparison], margin: str = "small") -> Pairs:
    """Comparisons as tensors."""
    sides = [sequence(tokenizer, c.request, c.chosen) for c in comparisons]
    sides += [sequence(tokenizer, c.request, c.rejected) for c in comparisons]
    margins = torch.tensor([MARGINS[margin][DEGREES.index(c.degree)] for c in comparisons])
    labels = [math.nan if c.safe is None else float(c.safe[side]) for side in (0, 1) for c in comparisons]
    return Pairs(sides, margins, torch.tensor(labels))


def ranking_loss(chosen: Tensor, rejected: Tensor, margins: Tensor) -> Tensor:
    """-ln sigmoid(r_chosen - r_rejected - margin) (equation 2; with margins of 0, equation 1), mean over pairs."""
    return -F.logsigmoid(chosen - rejected - margins).mean()


def safety_loss(values: Tensor, safe: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(r) with the labels, mean over the answers that have one; 0 if none has."""
    labelled = ~safe.isnan()
    if not labelled.any():
        return values.sum() * 0
    return F.binary_cross_entropy_with_logits(values[labelled], safe[labelled].to(values.dtype))


def reward_loss(model: nn.Module, batch: Pairs, safety_weight: float = 0.0, context: int = 256) -> Tensor:
    """Ranking loss, and the safety loss times its weight; texts are packed into rows of `context` tokens."""
    values = scores(model, batch.sequences, context)
    chosen, rejected = values.chunk(2)
    loss = ranking_loss(chosen, rejected, batch.margins.to(values.dtype))
    return loss + safety_weight * safety_loss(values, batch.safe) if safety_weight else loss


def train_reward_model(
    model: Llama,
    tokenizer: Tokenizer,
    comparisons: Sequence[Comparison],
    recipe: Recipe = RECIPE,
    margin: str = "small",
    safety_weight: float = 0.0,
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> list[float]:
    """Train a reward model in place, one pass over the comparisons as in the paper.

    Args:
        model: from `reward_model`, or one to go on with.
        tokenizer: the model's.
        comparisons: what is learnt from.
        recipe: epochs, pairs a step, learning rate; the paper's are 1, 512 and 1e-5.
        margin: a key of `MARGINS`.
        safety_weight: weight of the auxiliary loss; 0 for a helpfulness model.
        folder, device, progress: as in `minillama.alignment.sft.tune`.

    Returns:
        the loss of every step.
    """
    items = [(c.request.lines, c.chosen.tokens, c.rejected.tokens, c.degree, c.safe) for c in comparisons]
    identity = repr((items, margin, safety_weight))

    def collate(items: list[Comparison]) -> Pairs:
        return pairs(tokenizer, items, margin)

    def loss(model: nn.Module, batch: Pairs) -> Tensor:
        return reward_loss(model, batch, safety_weight, recipe.context)

    batches = Epochs(comparisons, recipe.batch_size, recipe.context, collate, identity, recipe.seed)
    return tune(model, batches, recipe, loss, folder, device, progress)


def differences(model: Llama, tokenizer: Tokenizer, comparisons: Sequence[Comparison]) -> Tensor:
    """Score of the chosen answer minus score of the rejected one, shape (len(comparisons),)."""
    requests = [c.request for c in comparisons]
    chosen = grade(model, tokenizer, requests, [c.chosen for c in comparisons])
    return chosen - grade(model, tokenizer, requests, [c.rejected for c in comparisons])


def accuracy_by_degree(gaps: Tensor, comparisons: Sequence[Comparison]) -> dict[str, tuple[int, int]]:
    """How many pairs the model orders as the annotator did, and of how many, by degree and for "all"; as in table 8."""
    right = {degree: [] for degree in (*reversed(DEGREES), "all")}
    for gap, c in zip(gaps.tolist(), comparisons, strict=True):
        right[c.degree].append(gap > 0)
        right["all"].append(gap > 0)
    return {degree: (sum(oks), len(oks)) for degree, oks in right.items()}
