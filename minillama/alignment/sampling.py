"""Answers of a chat model to many prompts at once (chapter 12).

Does: samples prompts of about equal length together, so that little is computed in vain; marks answers without an end.
Does not: give the same answers when other prompts are asked with them: the random numbers are shared.
Source: the loop is `minillama.model.generation`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from minillama.alignment.packing import packed
from minillama.model.generation import generate
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

MAX_NEW_TOKENS = 96  # the longest good demonstration has about 60


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        text: without control tokens, stripped.
        tokens: as sampled, with EOS if it came.
        ended: whether EOS came before the limit.
    """

    text: str
    tokens: tuple[int, ...]
    ended: bool


def sample(
    model: Llama,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    temperature: float = 1.0,
    top_p: float | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    seed: int = 0,
    batch_size: int = 128,
    progress: bool = False,
) -> list[Answer]:
    """One answer to each prompt.

    Args:
        model, tokenizer: a pair that belongs together.
        prompts: token ids, as `minillama.alignment.chat.encode_prompt` gives them; repeat one to sample it again.
        temperature, top_p: see `minillama.model.generation`; as they are here, answers are drawn from the model's own
            distribution, which the algorithms of the coming chapters need.
        max_new_tokens: an answer is cut there.
        seed: the same call gives the same answers.
        batch_size: prompts sampled together.
        progress: show a bar.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    device = model.tok_embeddings.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    answers: dict[int, Answer] = {}
    for start in tqdm(range(0, len(order), batch_size), unit="batch", desc="sampling", disable=not progress):
        batch = order[start : start + batch_size]
        done = generate(
            model,
            [prompts[i] for i in batch],
            max_new_tokens,
            temperature,
            top_p=top_p,
            stop_tokens=(tokenizer.eos_id,),
            generator=generator,
            bulk=True,
        )
        for i, completion in zip(batch, done, strict=True):
            ended = completion.stop_reason == "stop"
            tokens = (*completion.tokens, tokenizer.eos_id) if ended else tuple(completion.tokens)
            answers[i] = Answer(tokenizer.decode(tokens).strip(), tokens, ended)
    return [answers[i] for i in range(len(prompts))]


def logprobs(
    model: Llama, prompts: Sequence[Sequence[int]], answers: Sequence[Answer], context: int = 256
) -> list[Tensor]:
    """Log-probability of every token of each answer under a model, given its prompt and the tokens before.

    Args:
        model: any model with the answers' tokenizer, not only the one that gave them.
        prompts: token ids.
        answers: one to each prompt.
        context: tokens of a row into which texts are packed.

    Returns:
        a tensor of shape (len(answer.tokens),) for each, with gradient if the model has one.
    """
    texts = [[*prompt, *answer.tokens] for prompt, answer in zip(prompts, answers, strict=True)]
    tokens, documents, ends = packed(texts, context)
    device = model.tok_embeddings.weight.device
    logits = model(tokens[:, :-1].to(device), documents=documents[:, :-1].to(device))
    of_next = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None].to(device)).squeeze(-1)  # (rows, T - 1)
    found = []
    for answer, (row, end) in zip(answers, ends, strict=True):
        found.append(of_next[row, end - len(answer.tokens) : end])
    return found
