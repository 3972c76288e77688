"""A world of six answers of one token, whose best policy is known: every algorithm must find it."""

import torch

from minillama.model.config import ModelConfig

ARMS = 6
ONE_TOKEN = ModelConfig(dim=8, n_layers=1, n_heads=2, vocab_size=ARMS, multiple_of=8, max_seq_len=4)
PAYS = torch.tensor([0.1, 0.5, 0.0, 1.0, 0.7, 0.3])


class NoText:
    """A tokenizer for answers of one token."""

    eos_id = -1

    def decode(self, tokens):
        return " ".join(map(str, tokens))


def reward(_, answers):
    """What each answer pays."""
    return torch.stack([PAYS[answer.tokens[0]] for answer in answers])


def chances(model):
    """The model's probabilities of the six answers."""
    with torch.no_grad():
        return model(torch.tensor([[0]]))[0, 0].double().softmax(-1)


def tilted(reference, beta, pays=PAYS):
    """The best policy under a KL penalty: the reference times exp(pays / beta)."""
    best = reference * (pays / beta).exp()
    return best / best.sum()


def objective(p, reference, beta, pays=PAYS):
    """Expected reward minus beta times KL(p || reference)."""
    return (p * (pays - beta * (p / reference).log())).sum().item()
