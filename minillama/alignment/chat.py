"""The chat template of Llama 2-Chat: a dialogue as token ids (chapter 12).

Each pair of turns is one text, "[INST] question [/INST] answer ", between BOS and EOS; a system message stands inside
the first question. The tags are plain text, so whoever can write a tag can write the other side's part of the
dialogue. What people (and models) write is therefore refused, or defused, if it holds one.

Does: prompts and training examples as the reference makes them; finds tags, also in letters that look like them.
Does not: Code Llama 70B's other format; find an attack in plain words, which no template can.
Source: the reference's format and its check for tags (August 2023), as described in its release notes.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypedDict

from minillama.model.tokenizer import Tokenizer
from minillama.village.draw import Request

TAGS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")
_ALIKE = str.maketrans(
    {c: one for one, those in {
        "<": "‹〈⟨❮❬❰˂ᐸ", ">": "›〉⟩❯❭❱˃ᐳ", "<<": "«《⟪≪", ">>": "»》⟫≫", "[": "【〔⟦〖❲", "]": "】〕⟧〗❳", "/": "∕⁄⧸╱",
        "i": "ΙіІӀı", "n": "Ν", "s": "Ѕѕ", "t": "ΤТт", "y": "ΥУу",
    }.items() for c in those}
)  # fmt: skip
_UNSEEN = {"Cc", "Cf", "Mn", "Me", "Zs", "Zl", "Zp"}  # controls, joiners, marks and spaces: they leave little to see
_BLANK = "\u115f\u1160\u2800\u2581"  # nor do these; the last is a space to SentencePiece
_BRACKETS = frozenset("[]<>/")
_ENDS = re.compile(r"\A[\s\u2581]+|[\s\u2581]+\Z")  # a message that ends in "\u2581" would break up the tag behind it


class Message(TypedDict):
    """One turn: who speaks, and what is said."""

    role: Literal["system", "user", "assistant"]
    content: str


class DialogueError(ValueError):
    """The messages are no dialogue that the template has a place for."""


class TagError(DialogueError):
    """A message holds a tag of the template."""


def find_tag(text: str) -> tuple[int, int] | None:
    """Where the first tag begins and ends, or None.

    The reference looks for the four exact strings. This also finds them in other case, with spaces or unseen
    characters between the letters, and in characters that look the same, such as full-width ones.
    """
    bare, origin = [], []
    for i, character in enumerate(text):
        bare += (seen := _seen(character))
        origin += [i] * len(seen)
    bare = "".join(bare)
    found = [(at, tag) for tag in TAGS if (at := bare.find(tag.lower())) >= 0]
    if not found:
        return None
    at, tag = min(found)
    return origin[at], origin[at + len(tag) - 1] + 1


@lru_cache(maxsize=4096)
def _seen(character: str) -> str:
    """What a reader may take a character for, in small letters; "" for one that is not seen."""
    plain = unicodedata.normalize("NFKD", character).translate(_ALIKE).lower()
    return "".join(c for c in plain if unicodedata.category(c) not in _UNSEEN and c not in _BLANK)


def defuse(text: str) -> str:
    """The text with the brackets of every tag taken away: "[INST]" becomes "INST"."""
    while span := find_tag(text):
        begin, end = span
        text = text[:begin] + "".join(c for c in text[begin:end] if _BRACKETS.isdisjoint(_seen(c))) + text[end:]
    return text


def check_dialogue(messages: Sequence[Message], last: str) -> list[Message]:
    """The turns without the system message, which goes into the first question; every content stripped.

    Args:
        messages: an optional system message, then user and assistant by turns.
        last: role of the last message.

    Raises:
        DialogueError: if roles are missing, unknown or in another order, or a content is empty or no string.
        TagError: if a content holds a tag.
    """
    turns: list[Message] = []
    for number, message in enumerate(messages):
        if set(message) != {"role", "content"} or not isinstance(message["content"], str):
            raise DialogueError(f"message {number} must have a role and a content that is text, got {message!r}")
        role, content = message["role"], _ENDS.sub("", message["content"])
        if not content and role != "system":
            raise DialogueError(f"message {number} ({role}) is empty; leave it out or write something")
        if span := find_tag(content):
            raise TagError(
                f"message {number} ({role}) has the tag {content[slice(*span)]!r} at character {span[0]}: a tag typed "
                "into a message would be read as one; refuse the message, or pass it through defuse()"
            )
        turns.append({"role": role, "content": content})
    system = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else ""
    expected = [("user", "assistant")[i % 2] for i in range(len(turns))]
    if not turns or [turn["role"] for turn in turns] != expected or turns[-1]["role"] != last:
        raise DialogueError(
            f"after an optional system message, user and assistant take turns and {last} comes last; got "
            f"{[message['role'] for message in messages]}"
        )
    if system:
        question = f"<<SYS>>\n{system}\n<</SYS>>\n\n{turns[0]['content']}"
        turns[0] = {"role": "user", "content": question}
    return turns


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Token ids up to where the next answer begins.

    Args:
        tokenizer: the model's.
        messages: a dialogue that ends with the user.

    Returns:
        every earlier pair of turns as BOS ... EOS, then BOS and the last question, without EOS.

    Raises:
        DialogueError, TagError: as `check_dialogue`.
    """
    *pairs, question = check_dialogue(messages, "user")
    earlier = _pairs(tokenizer, pairs) if pairs else ([], [])
    return earlier[0] + tokenizer.encode(_asked(question), bos=True)


def encode_dialogue(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
    """Token ids of a dialogue that ends with an answer, and which of them belong to answers.

    Args:
        tokenizer: the model's.
        messages: a dialogue that ends with the assistant.

    Returns:
        ids, and for each whether the assistant says it; the EOS behind an answer is part of it.

    Raises:
        DialogueError, TagError: as `check_dialogue`.
    """
    return _pairs(tokenizer, check_dialogue(messages, "assistant"))


def _asked(question: Message) -> str:
    return f"[INST] {question['content']} [/INST]"


def _pairs(tokenizer: Tokenizer, turns: list[Message]) -> tuple[list[int], list[bool]]:
    ids, said = [], []
    for question, answer in zip(turns[::2], turns[1::2], strict=True):
        prompt = tokenizer.encode(_asked(question), bos=True)
        both = tokenizer.encode(f"{_asked(question)} {answer['content']} ", bos=True, eos=True)
        # no piece of these vocabularies goes on over a space, so the prompt's ids are where the pair's ids begin
        if both[: len(prompt)] != prompt:
            raise DialogueError(f"this tokenizer joins the tag and the answer {answer['content'][:20]!r} in one token")
        ids += both
        said += [False] * len(prompt) + [True] * (len(both) - len(prompt))
    return ids, said


def messages(request: Request, answer: str | None = None) -> list[Message]:
    """A request of the village as a dialogue, with an answer behind it if there is one."""
    system = [Message(role="system", content=request.system)] if request.system else []
    turns = [text for turn in request.history for text in turn] + [request.prompt]
    turns += [] if answer is None else [answer]
    return system + [Message(role=("user", "assistant")[i % 2], content=text) for i, text in enumerate(turns)]
