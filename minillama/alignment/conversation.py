"""A conversation with a chat model, turn by turn (chapter 16).

The model has no memory: at every turn it reads the whole conversation again, in the template of chapter 12, and goes
on. So a conversation is a list of turns and a rule for what to do when they no longer fit.

Does: streams an answer as it is sampled, and keeps what was said if you stop it; counts the oldest turns that it has
    to leave out, so that whoever shows the conversation can say so; keeps tags out of what the model reads.
Does not: keep the keys and values of earlier turns, so each turn is read anew; sum up what it leaves out.
Source: the reference's template, see `minillama.alignment.chat`; that the oldest turns go first is our choice.
"""

from collections.abc import Iterator

import torch

from minillama.alignment.chat import Message, check_dialogue, defuse, encode_prompt
from minillama.alignment.sampling import MAX_NEW_TOKENS
from minillama.model.generation import as_text, next_token_distribution, stream
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama


def remembered(answer: str) -> str:
    """An answer as the history of the next turn: tags defused, and never empty, since the template has no empty turn.

    A model may write a tag, or end at once; neither must break the conversation.
    """
    return defuse(answer).replace("\u2581", " ").strip() or "."


class Conversation:
    """Turns between you and a chat model.

    Args:
        model, tokenizer: a pair that belongs together.
        system: the system message; "" for none.
        temperature, top_p: see `minillama.model.generation`; may be changed between turns.
        max_new_tokens: an answer is cut there, or where the model's context ends.
        seed: of the answers; the same seed and the same words give the same conversation.

    Attributes:
        turns: pairs of a question and its answer, the oldest first; an answer that was stopped has what was said.
        left_out: how many of the oldest turns were left out of what the model read last.
        ended: whether the last answer came to its end, and was neither cut nor stopped.

    Raises:
        TagError: if the system message holds a tag of the template.
        ValueError: for a reward model, or impossible settings.
    """

    def __init__(
        self,
        model: Llama,
        tokenizer: Tokenizer,
        system: str = "",
        temperature: float = 0.6,
        top_p: float | None = 0.9,
        max_new_tokens: int = MAX_NEW_TOKENS,
        seed: int = 0,
    ):
        if model.config.n_outputs is not None:
            raise ValueError("a reward model grades and cannot answer: give a chat model")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        self.model, self.tokenizer, self.max_new_tokens, self.seed = model, tokenizer, max_new_tokens, seed
        self.system, self.temperature, self.top_p = system, temperature, top_p
        self._changes = 0  # an answer that is still being sampled ends when this moves on
        self.reset()

    @property
    def system(self) -> str:
        """The system message; a new one holds from the next answer on, for the turns before as well."""
        return self._system

    @system.setter
    def system(self, text: str) -> None:
        check_dialogue([Message(role="system", content=text), Message(role="user", content="?")], "user")
        self._system = text.strip()

    @property
    def temperature(self) -> float:
        """Of the answers; 0 is greedy."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        next_token_distribution(torch.zeros(1), value)  # raises for an impossible one
        self._temperature = value

    @property
    def top_p(self) -> float | None:
        """Mass that is kept of each distribution; None keeps all."""
        return self._top_p

    @top_p.setter
    def top_p(self, value: float | None) -> None:
        next_token_distribution(torch.zeros(1), 1.0, None, value)
        self._top_p = value

    def reset(self) -> None:
        """Begin anew: no turns, and the dice as at the beginning."""
        self.turns: list[tuple[str, str]] = []
        self.left_out, self.ended, self._changes = 0, True, self._changes + 1
        self._dice = torch.Generator(self.model.tok_embeddings.weight.device).manual_seed(self.seed)

    def undo(self) -> tuple[str, str] | None:
        """Take back the last turn and return it, if there is one. The dice go on: asked again, it is answered anew."""
        self.left_out, self.ended = max(0, min(self.left_out, len(self.turns) - 1)), True
        self._changes += 1
        return self.turns.pop() if self.turns else None

    def messages(self, question: str, left_out: int = 0) -> list[Message]:
        """What the model is to answer: the system message, the turns but the oldest `left_out`, and a question."""
        found = [Message(role="system", content=self.system)] if self.system else []
        for asked, said in self.turns[left_out:]:
            found += [Message(role="user", content=asked), Message(role="assistant", content=remembered(said))]
        return [*found, Message(role="user", content=question)]

    def prompt(self, question: str) -> tuple[list[int], int]:
        """Token ids of what the model is to answer, and how many of the oldest turns do not fit into them.

        An answer is promised room for `max_new_tokens`, or for a quarter of the model's context if that is less.

        Raises:
            DialogueError, TagError: as `minillama.alignment.chat.check_dialogue`.
            ValueError: if question and system message alone leave no such room.
        """
        longest = self.model.config.max_seq_len
        room = min(self.max_new_tokens, longest // 4)
        for left_out in range(len(self.turns) + 1):
            ids = encode_prompt(self.tokenizer, self.messages(question, left_out))
            if len(ids) + room <= longest:
                return ids, left_out
        raise ValueError(
            f"question and system message have {len(ids)} tokens; the model reads {longest}, of which {room} are kept "
            f"for the answer: say it in at most {longest - room} tokens"
        )

    def ask(self, question: str) -> Iterator[str]:
        """Ask, and get the answer piece by piece.

        What is wrong with the question is said at once, and then nothing has changed. What was said stands in `turns`
        with every piece, so nothing is lost if you stop listening.

        Args:
            question: what you say.

        Yields:
            non-empty strings; joined, they are the answer, without spaces around it.

        Raises:
            DialogueError, TagError, ValueError: as `prompt`.
        """
        question = question.strip()
        ids, self.left_out = self.prompt(question)
        self.turns.append((question, ""))
        self.ended, self._changes = False, self._changes + 1
        return self._answer(question, ids, self._changes)

    def _answer(self, question: str, ids: list[int], change: int) -> Iterator[str]:
        said, space = "", ""
        for piece in as_text(self.tokenizer, ids, self._tokens(ids, change)):
            text = (space + piece) if said else piece.lstrip()
            new = text.rstrip()
            space = text[len(new) :]  # shown only if something follows
            if new:
                said += new
                self.turns[-1] = (question, said)
                yield new

    def _tokens(self, ids: list[int], change: int) -> Iterator[int]:
        """The answer's ids up to EOS, which is noted; none any more once the conversation has changed."""
        settings = {"temperature": self.temperature, "top_p": self.top_p, "generator": self._dice}
        for token in stream(self.model, ids, self.max_new_tokens, **settings):
            if self._changes != change:
                return
            if token == self.tokenizer.eos_id:
                self.ended = True
                return
            yield token
