"""The recipe of a training run: its numbers, the learning rate at every step, and the optimiser (chapter 9).

The rate climbs in a straight line while Adam's averages are still young, then falls along half a cosine to a tenth of
its peak. Weight decay pulls matrices towards zero, but not the gains of the norms, whose natural value is one.

Does: the paper's AdamW settings and its schedule; a constant rate with `min_lr_ratio=1` and no warm-up.
Does not: other optimisers; a rate of its own for the embedding.
Source: Touvron et al. 2023b, section 2.2 (beta 0.9 and 0.95, eps 1e-5, cosine to 10 %, warm-up, weight decay 0.1,
    clipping at 1.0); Loshchilov and Hutter 2019. Decay on matrices only is a common custom; the paper does not say.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TrainConfig:
    """The numbers of one run.

    Args:
        steps: updates of the weights; the schedule ends there.
        batch_size: sequences per batch, over all processes.
        context: tokens that the model sees of each.
        peak_lr: highest learning rate; the paper's is 3e-4 for 7B and 13B, a small model wants ten times as much.
        warmup_steps: updates until the rate is at its peak; the paper's 2,000 are 0.4 % of its run.
        min_lr_ratio: last rate over peak rate.
        betas: memories of Adam's two averages.
        eps: added to Adam's divisor.
        weight_decay: pull of matrices to zero, in units of the learning rate.
        clip: the gradient's norm over all parameters is cut to this; `math.inf` cuts nothing.
        accumulate: batches whose gradients are averaged into one update.
        dtype: "float32", or "bfloat16" for autocast: products in bfloat16, weights and sums in float32. Use it where
            the hardware has it (GPUs; CPUs with AMX, from about a million parameters on); elsewhere it is slower.
        compile: run the model through `torch.compile`: a minute to start, then faster; needs a C++ compiler.
        seed: state of torch's random numbers at the start. The weights and the data have seeds of their own.
        eval_every: call `on_eval` after every so many steps; 0 never.
        save_every: write a checkpoint after every so many steps; 0 only at the end.

    Raises:
        ValueError: for a number out of range.
    """

    steps: int
    batch_size: int
    context: int
    peak_lr: float
    warmup_steps: int = 0
    min_lr_ratio: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-5
    weight_decay: float = 0.1
    clip: float = 1.0
    accumulate: int = 1
    dtype: str = "float32"
    compile: bool = False
    seed: int = 0
    eval_every: int = 0
    save_every: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON has lists only
        for name in ("steps", "batch_size", "context", "accumulate", "peak_lr", "clip", "eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")
        for name in ("weight_decay", "eval_every", "save_every"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be below 0, got {getattr(self, name)!r}")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(f"warmup_steps must lie in 0 .. steps - 1 = {self.steps - 1}, got {self.warmup_steps}")
        if not 0 <= self.min_lr_ratio <= 1:
            raise ValueError(f"min_lr_ratio must lie between 0 and 1, got {self.min_lr_ratio}")
        if not (len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)):
            raise ValueError(f"betas must be two numbers in 0 .. 1 (1 excluded), got {self.betas}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {list(DTYPES)}, got {self.dtype!r}")


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of an update; the first is step 1, so that none is wasted on a rate of zero.

    With t the step, W the warm-up and T the last step: peak t / W up to W, then
    low + (peak - low) (1 + cos(pi (t - W) / (T - W))) / 2, and low for ever after T.
    """
    peak, low = config.peak_lr, config.min_lr_ratio * config.peak_lr
    if step < config.warmup_steps:
        return peak * step / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / (config.steps - config.warmup_steps))
    return low + 0.5 * (peak - low) * (1 + math.cos(math.pi * progress))


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over all parameters: the matrices (embedding and output head included) decay, the vectors do not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    on_gpu = all(parameter.is_cuda for parameter in parameters)
    # one fused kernel on a GPU; on a CPU the plain loop is as fast
    return torch.optim.AdamW(groups, lr=config.peak_lr, betas=config.betas, eps=config.eps, fused=on_gpu or None)
