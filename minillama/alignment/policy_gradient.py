"""From the reward of an answer to a gradient for each of its tokens (chapter 15).

All tensors have one row for each answer and one column for each of its tokens, from the first that was sampled to EOS;
`mask` tells tokens from the padding behind them. Column t of log-probabilities, values, rewards and advantages belongs
to the same token, and a value is what was expected *before* it.

Does: whitening, rewards of tokens with the KL penalty, GAE, the clipped losses, three estimates of the KL divergence.
Does not: sample or update; `minillama.alignment.ppo` does.
Source: Touvron et al. 2023b, section 3.2.3, eq. 4; Schulman et al. 2016 (GAE), 2017 (PPO), 2020 (k1, k2, k3); Ziegler
    et al. 2019 (the KL penalty token by token).
"""

import torch
from torch import Tensor


def whiten(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Shifted and scaled to mean 0 and variance 1 over the entries of the mask; entries outside it become 0."""
    mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    inside = values[mask]
    mean, variance = inside.mean(), inside.var(correction=0)
    return torch.where(mask, (values - mean) / (variance + 1e-8).sqrt(), 0.0)


def token_rewards(scores: Tensor, old: Tensor, reference: Tensor, mask: Tensor, beta: float) -> Tensor:
    """The reward of each token (equation 4, token by token): -beta (ln pi_old - ln pi_0), and the score on the last.

    Args:
        scores: of whole answers, shape (B,).
        old, reference: log-probabilities of the tokens under the policy that sampled them and under the reference.
        mask: which entries are tokens.
        beta: weight of the KL divergence.

    Returns:
        shape (B, T). The sum of a row is the score minus beta times the estimate k1 of the answer's KL divergence.
    """
    rewards = torch.where(mask, -beta * (old - reference), 0.0)
    last = mask.sum(1, keepdim=True) - 1  # of the real tokens, not of the row
    return rewards.scatter_add(1, last, scores[:, None].to(rewards.dtype))


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates, and the returns that the value model should have said.

    A_t = delta_t + gamma lam A_t+1 with delta_t = r_t + gamma V_t+1 - V_t, from the last token backwards; behind it
    value and advantage are 0.

    Args:
        rewards, values, mask: shape (B, T).
        gamma, lam: discount; 0 trusts the value model at the next token, 1 waits for the end of the answer.

    Returns:
        advantages and returns (advantage + value), shape (B, T), 0 outside the mask.
    """
    rewards, values = rewards * mask, values * mask
    advantage, following = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    found = []
    for t in reversed(range(values.shape[1])):
        advantage = rewards[:, t] + gamma * following - values[:, t] + gamma * lam * advantage
        following = values[:, t]
        found.append(advantage)
    advantages = torch.stack(found[::-1], dim=1) * mask
    return advantages, advantages + values


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float = 0.2) -> Tensor:
    """-min(rho A, clip(rho, 1 - eps, 1 + eps) A) with rho = pi_new / pi_old, mean over tokens (PPO's equation 7)."""
    ratio = (new - old).exp()
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    return -masked_mean(gain, mask)


def value_loss(new: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float = 0.2) -> Tensor:
    """Half the squared error, or that of the value held within `clip` of the old one if it is larger; mean."""
    held = old + (new - old).clamp(-clip, clip)
    return masked_mean(torch.maximum((new - returns) ** 2, (held - returns) ** 2), mask) / 2


def kl_estimates(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three estimates of KL(pi_own || pi_other) from tokens that pi_own sampled, by Schulman's names k1, k2, k3.

    With r = pi_other / pi_own: -ln r (unbiased, noisy, may be negative), (ln r)^2 / 2 (biased, never negative) and
    r - 1 - ln r (unbiased, never negative).

    Args:
        own, other: log-probabilities of the same tokens, of one shape.
    """
    log_r = other - own
    return -log_r, log_r**2 / 2, log_r.exp() - 1 - log_r


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the entries of the mask."""
    return torch.where(mask, values, 0.0).sum() / mask.sum()
