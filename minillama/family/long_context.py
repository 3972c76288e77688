"""Reading further than the model was trained to (chapter 19).

A rotary model that meets a distance it has never seen meets angles it has never seen. There are two ways to spare it
that: turn everything more slowly (a larger base), or shrink the positions (interpolation); both want some training at
the new length.

Does: a model with another base or with scaled positions, sharing no memory with the old one; texts in which a value
    has to be found again over any distance; loss by position; retrieval of a key by depth and length.
Does not: choose the scale by the length of the prompt, or treat slow and fast pairs differently (NTK-aware scaling).
Source: Roziere et al. 2023, sections 2.4, 3.3 and appendix; Chen et al. 2023 (position interpolation).
"""

import copy
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minillama.alignment.sft import Epochs, Recipe, tune
from minillama.model.config import ModelConfig
from minillama.model.rope import rotation_table
from minillama.model.transformer import Llama

NAMES, VALUES = 64, 8
ASSIGNING = 1 / 3  # share of the lines
VOCABULARY = NAMES * (2 + VALUES)


class Rescaled(Llama):
    """A Llama whose token m stands at position m * scale.

    Args:
        config: the shape.
        scale: 1 is the ordinary model; 1/4 squeezes four times the length into the positions that were trained.
        seed: of the initial weights.

    Raises:
        ValueError: if the scale is not above 0.
    """

    def __init__(self, config: ModelConfig, scale: float = 1.0, seed: int = 0):
        if not scale > 0:
            raise ValueError(f"positions are multiplied by a scale above 0, got {scale!r}")
        super().__init__(config, seed)
        self.scale = scale

    def rotations(self, start: int, length: int) -> Tensor:
        """As in `Llama`, at scaled positions; computed anew each time, so that no old table can survive a change."""
        weight = self.tok_embeddings.weight
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        positions = torch.arange(start, start + length, device=weight.device, dtype=torch.float64) * self.scale
        return rotation_table(self.config.head_dim, positions, self.config.rope_theta, dtype)


def rescaled(model: Llama, theta: float | None = None, scale: float = 1.0) -> Rescaled:
    """A copy of a model that turns its queries and keys otherwise; the weights stay as they are.

    Args:
        model: stays as it is.
        theta: new base; None keeps the model's. Code Llama: 1e6 for 1e4.
        scale: factor on positions, see `Rescaled`. It replaces that of a model that is rescaled already.
    """
    config = model.config if theta is None else replace(model.config, rope_theta=theta)
    with torch.device("meta"):
        changed = Rescaled(config, scale)
    changed.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    return changed.train(model.training)


def documents(number: int, lines: int, dice: np.random.Generator) -> Tensor:
    """Texts in which what was said last must be remembered, as in a program.

    A line is two tokens, a name and its value. A third of the lines assign: a value is drawn and is the name's from
    here on. The others read: they say the value that the name has (one from before the text, if none was assigned).
    Half of the lines come back to the name of a line before, all equally likely; the others draw a name by Zipf's law,
    whose order is each text's own. Each name has values of its own, as "red" is said of colours only.

    Args:
        number: of texts.
        lines: in each.
        dice: random numbers.

    Returns:
        ids, shape (number, 2 * lines): at even places names, from `NAMES` on those that are assigned; at odd places
        values.

    Raises:
        ValueError: if either number is below 1.
    """
    names = _names(number, lines, dice)
    return _told(names, dice.random(names.shape) < ASSIGNING, dice)


def key_documents(
    number: int, lines: int, depth: float, dice: np.random.Generator, overwritten: bool = False
) -> Tensor:
    """`documents` whose last line reads a name that stands nowhere else but in one assignment, the key.

    Args:
        number, lines, dice: as in `documents`; at least two lines.
        depth: where the key stands, from 0 (first line) to 1 (the line before the last).
        overwritten: assign that name once more, anywhere before the key; so the key must be found, and told from a
            value that does not hold any more.

    Raises:
        ValueError: if there is one line only, or the depth is not between 0 and 1.
    """
    if lines < 2 or not 0 <= depth <= 1:
        raise ValueError(f"a key needs 2 lines and a depth from 0 to 1, got {lines} and {depth}")
    names, place, rows = _names(number, lines, dice), round(depth * (lines - 2)), np.arange(number)
    assigns = dice.random(names.shape) < ASSIGNING
    key = dice.integers(0, NAMES, (number, 1))
    names = np.where(names == key, (key + dice.integers(1, NAMES, (number, 1))) % NAMES, names)
    earlier = (dice.random(number) * place).astype(np.int64)
    said = [(earlier, True)] if overwritten else []
    for line, new in (*said, (np.full(number, place), True), (np.full(number, lines - 1), False)):
        names[rows, line], assigns[rows, line] = key[:, 0], new
    return _told(names, assigns, dice)


def _names(number: int, lines: int, dice: np.random.Generator) -> np.ndarray:
    if number < 1 or lines < 1:
        raise ValueError(f"expected at least one text of at least one line, got {number} of {lines}")
    zipf = 1 / np.arange(1, NAMES + 1)
    ranks = dice.choice(NAMES, (number, lines), p=zipf / zipf.sum())
    back = dice.random((number, lines)) < 0.5
    source = (dice.random((number, lines)) * np.arange(lines)).astype(np.int64)
    for line in range(1, lines):
        ranks[:, line] = np.where(back[:, line], ranks[np.arange(number), source[:, line]], ranks[:, line])
    order = dice.permuted(np.tile(np.arange(NAMES), (number, 1)), axis=1)  # each text's own
    return np.take_along_axis(order, ranks, 1)


def _told(names: np.ndarray, assigns: np.ndarray, dice: np.random.Generator) -> Tensor:
    """Ids of lines, given their names and which of them assign, both (number, lines)."""
    drawn, rows = dice.integers(0, VALUES, names.shape), np.arange(len(names))
    now, said = dice.integers(0, VALUES, (len(names), NAMES)), np.empty_like(names)
    for line, name in enumerate(names.T):
        now[rows, name] = np.where(assigns[:, line], drawn[:, line], now[rows, name])
        said[:, line] = now[rows, name]
    ids = np.stack([names + NAMES * assigns, 2 * NAMES + VALUES * names + said], -1)  # (number, lines, 2)
    return torch.from_numpy(ids.reshape(len(names), -1))


def written(tokens: Tensor) -> str:
    """One text for people: `a07=3` assigns, `a07:3` reads; a name alone at the end asks."""
    ids, lines = tokens.tolist(), []
    for name, value in zip(ids[::2], ids[1::2], strict=False):
        lines.append(f"a{name % NAMES:02}{'=' if name >= NAMES else ':'}{(value - 2 * NAMES) % VALUES}")
    return " ".join(lines + ([f"a{ids[-1] % NAMES:02}:"] if len(ids) % 2 else []))


def value_losses(model: Llama, tokens: Tensor) -> Tensor:
    """Negative log-likelihood of each value that is read, in nats; NaN where a line assigns, which nobody can foresee.

    Args:
        model: any.
        tokens: texts of whole lines, shape (B, 2 * lines).

    Returns:
        shape (B, lines).
    """
    states = model.hidden_states(tokens[:, :-1])[:, ::2]  # behind each name
    losses = F.cross_entropy(model.output(states).transpose(1, 2), tokens[:, 1::2], reduction="none")
    return losses.masked_fill(tokens[:, ::2] >= NAMES, torch.nan)


def value_loss(model: Llama, tokens: Tensor) -> Tensor:
    """Mean of `value_losses` over all lines that read."""
    return value_losses(model, tokens).nanmean()


@torch.inference_mode()
def retrieved(model: Llama, tokens: Tensor, batch_size: int = 32) -> Tensor:
    """Whether the last value of each text is the most likely one: booleans, shape (B,)."""
    found = []
    for some in tokens.split(batch_size):
        logits = model.output(model.hidden_states(some[:, :-1])[:, -1])
        found.append(logits.argmax(-1) == some[:, -1])
    return torch.cat(found)


@torch.no_grad()
def beginner(config: ModelConfig, seed: int, std: float = 0.1) -> Llama:
    """A model whose first weights are larger than usual: for a width of 64, 0.02 is so small that learning is slow."""
    model = Llama(config, seed)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(std / 0.02)
    return model


def learn(model: Llama, texts: Tensor, recipe: Recipe, progress: bool = True) -> list[float]:
    """Train in place on the values of texts of one length, shape (N, T); returns the loss of every step.

    Raises:
        ValueError: if the texts are longer than the recipe's context.
    """
    if texts.shape[1] > recipe.context:
        raise ValueError(f"the texts have {texts.shape[1]} tokens, the recipe a context of {recipe.context}")
    identity = f"{tuple(texts.shape)} {texts[:64].tolist()}"
    batches = Epochs(list(texts), recipe.batch_size, recipe.context, torch.stack, identity, recipe.seed)
    return tune(model, batches, recipe, value_loss, progress=progress)
