"""Ghost Attention: an instruction that is given once and kept for the whole conversation (chapter 16).

Sample conversations in which every question carries the instruction; then teach the last answer with the instruction
in front of the first question only. The model learns to act as if it stood in front of each: a ghost of it.

Does: the paper's construction; plays whole conversations, with the instruction given once or with every question;
    says how much of the attention goes where.
Does not: change the attention. It is a way to make training data, and its name is a metaphor.
Source: Touvron et al. 2023b, section 3.3 and appendix A.3.5. That only examples are kept whose answer obeys is our
    choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minillama.alignment.chat import Message, encode_dialogue, encode_prompt
from minillama.alignment.conversation import remembered
from minillama.alignment.sampling import Answer, sample
from minillama.alignment.sft import Example
from minillama.model.attention import causal_mask
from minillama.model.rope import apply_rotary
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.demonstrations import demonstrate
from minillama.village.draw import Request
from minillama.village.instructions import Instruction, conversation, draw_instruction, obey, obeys
from minillama.village.language import Chooser

MAX_NEW_TOKENS = 40  # for one short answer; what is longer is cut


@dataclass(frozen=True)
class Played:
    """A conversation as it went.

    Attributes:
        instruction: what all answers are to obey, or None.
        requests: the questions.
        answers: one to each.
    """

    instruction: Instruction | None
    requests: Sequence[Request]
    answers: Sequence[Answer]

    @property
    def said(self) -> list[str]:
        """The answers as history, without tags that a model might have written, and never empty."""
        return [remembered(answer.text) for answer in self.answers]


def encode(
    tokenizer: Tokenizer,
    instruction: Instruction | None,
    questions: Sequence[str],
    answers: Sequence[str],
    repeat: bool = False,
) -> tuple[list[int], list[bool]]:
    """A conversation as token ids, and which of them belong to answers.

    Args:
        tokenizer: the model's.
        instruction: a system message, or None.
        questions: of the user, in order.
        answers: to all of them, or to all but the last one, which then waits for its answer.
        repeat: give the instruction with every question, as if each began a dialogue; else with the first one only.

    Raises:
        ValueError: if the numbers of questions and answers do not fit.
        DialogueError, TagError: as `minillama.alignment.chat.check_dialogue`.
    """
    if len(questions) - len(answers) not in (0, 1):
        raise ValueError(f"expected an answer to each question but perhaps the last, got {len(answers)} to "
                         f"{len(questions)}")  # fmt: skip
    ids, said = [], []
    for i, question in enumerate(questions):
        turn = [Message(role="user", content=question)]
        if instruction and (repeat or i == 0):
            turn.insert(0, Message(role="system", content=instruction.text))
        if i < len(answers):
            new, by = encode_dialogue(tokenizer, [*turn, Message(role="assistant", content=answers[i])])
        else:
            new = encode_prompt(tokenizer, turn)
            by = [False] * len(new)
        ids, said = ids + new, said + by
    return ids, said


def play(
    model: Llama,
    tokenizer: Tokenizer,
    instructions: Sequence[Instruction | None],
    conversations: Sequence[Sequence[Request]],
    repeat: bool = False,
    temperature: float = 1.0,
    seed: int = 0,
    **more,
) -> list[Played]:
    """Ask the questions of many conversations in turn; a model's own answers are its history.

    A conversation that no longer fits the model's context ends there, with fewer answers than questions.

    Args:
        model, tokenizer: a pair that belongs together.
        instructions: one for each conversation, or None.
        conversations: questions in order; they may differ in number.
        repeat: give the instruction with every question.
        temperature, seed: as in `minillama.alignment.sampling.sample`; other arguments are its too.
    """
    found = [Played(i, c, []) for i, c in zip(instructions, conversations, strict=True)]
    going, room = list(range(len(found))), model.config.max_seq_len - MAX_NEW_TOKENS
    for turn in range(max(map(len, conversations))):
        prompts = {}
        for i in going:
            own = found[i]
            if turn < len(own.requests):
                asked = [request.prompt for request in own.requests[: turn + 1]]
                ids, _ = encode(tokenizer, own.instruction, asked, own.said, repeat)
                if len(ids) <= room:
                    prompts[i] = ids
        going = list(prompts)
        if not going:
            break
        settings = {"max_new_tokens": MAX_NEW_TOKENS, **more}
        answers = sample(model, tokenizer, list(prompts.values()), temperature, seed=1000 * seed + turn, **settings)
        for i, answer in zip(going, answers, strict=True):
            found[i] = Played(found[i].instruction, found[i].requests, [*found[i].answers, answer])
    return found


def ghost(tokenizer: Tokenizer, played: Played, all_turns: bool = False) -> Example:
    """What is learnt from a conversation: its last answer, with the instruction in front of the first question only.

    Args:
        tokenizer: the model's.
        played: a conversation that was sampled with the instruction repeated.
        all_turns: learn the earlier answers too, for comparison.
    """
    asked = [request.prompt for request in played.requests[: len(played.answers)]]
    ids, said = encode(tokenizer, played.instruction, asked, played.said)
    last = len(ids) - said[::-1].index(False)  # behind the last token that is not the assistant's
    return Example(ids, said if all_turns else [i >= last for i in range(len(ids))])


def demonstrated(
    tokenizer: Tokenizer, number: int, seed: int, most_turns: int = 1, instructed: bool = True, good: float = 0.3
) -> list[Example]:
    """Dialogues of the training set as people would write them; all answers are learnt.

    Args:
        tokenizer: the model's.
        number: how many dialogues.
        seed: of instructions, questions and answers.
        most_turns: 1 for single questions; else each dialogue has from 2 to so many.
        instructed: each dialogue begins with an instruction, which every answer obeys.
        good: share of the answers that are better than plain.

    Raises:
        ValueError: if `most_turns` is below 1.
    """
    if most_turns < 1:
        raise ValueError(f"a dialogue has at least 1 turn, got most_turns={most_turns}")
    choose, found = Chooser(seed), []
    for _ in range(number):
        instruction = draw_instruction(choose) if instructed else None
        asked = conversation(choose, "train", choose.number(min(2, most_turns), most_turns))
        answers = [demonstrate(r, seed, "good" if choose.chance(good) else "plain") for r in asked]
        if instruction:
            answers = [obey(instruction, answer) for answer in answers]
        found.append(Example(*encode(tokenizer, instruction, [r.prompt for r in asked], answers)))
    return found


def obedient(played: Sequence[Played]) -> list[Played]:
    """The conversations to learn from: all questions answered, and the last answer ended and obeys."""
    return [
        p for p in played
        if len(p.answers) == len(p.requests) and p.answers[-1].ended and obeys(p.instruction, p.answers[-1].text)
    ]  # fmt: skip


@torch.no_grad()
def attention_weights(model: Llama, ids: Sequence[int]) -> Tensor:
    """All weights of all heads for one text, computed as in chapter 5, since the fused kernel keeps none.

    Returns:
        shape (layers, heads, T, T); row t sums to 1 over the positions up to t.
    """
    tokens = torch.tensor([list(ids)], device=model.tok_embeddings.weight.device)
    rotations, x, found = model.rotations(0, len(ids)), model.tok_embeddings(tokens), []
    for layer in model.layers:
        attention, normed = layer.attention, layer.attention_norm(x)
        q, k = (
            apply_rotary(w(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2), rotations)
            for w in (attention.wq, attention.wk)
        )  # (1, H, T, hd) and (1, KV, T, hd)
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        scores = q @ k.transpose(-2, -1) / attention.head_dim**0.5
        hidden = ~causal_mask(len(ids), len(ids), tokens.device)
        found.append(scores.masked_fill(hidden, -torch.inf).softmax(-1)[0])
        x = layer(x, rotations)
    return torch.stack(found)
