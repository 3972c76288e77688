"""Ghost Attention: where the instruction stands, what is learnt, and how a conversation is played."""

import pytest
import torch

from minillama import data_path
from minillama.alignment import ghost_attention
from minillama.alignment.chat import TagError, encode_dialogue, encode_prompt
from minillama.alignment.ghost_attention import Played, attention_weights, demonstrated, encode, ghost, obedient, play
from minillama.alignment.sampling import Answer
from minillama.alignment.sft import Recipe, fine_tune
from minillama.model.attention import plain_attention
from minillama.model.config import ModelConfig
from minillama.model.rope import apply_rotary
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.instructions import conversation, instruct, obeys
from minillama.village.language import Chooser

TINY = ModelConfig(dim=16, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256)
MILLER = instruct({"figure": "miller"})
ASKED = conversation(Chooser(0), "train", 3)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(data_path("tokenizer.model"))


def answer(text, ended=True):
    return Answer(text, (5, 2), ended)


def texts(tokenizer, example):
    """All that an example shows, and all that it teaches."""
    taught = [t for t, said in zip(example.tokens, example.said, strict=True) if said]
    return tokenizer.decode(list(example.tokens)), tokenizer.decode(taught).strip()


def test_the_instruction_stands_once_or_with_every_question(tokenizer):
    system = {"role": "system", "content": MILLER.text}
    q = [{"role": "user", "content": c} for c in "abc"]
    a = [{"role": "assistant", "content": c} for c in "xy"]
    once, _ = encode(tokenizer, MILLER, "abc", "xy")
    assert once == encode_prompt(tokenizer, [system, q[0], a[0], q[1], a[1], q[2]])
    often, said = encode(tokenizer, MILLER, "abc", "xy", repeat=True)
    pairs = [encode_dialogue(tokenizer, [system, q[i], a[i]]) for i in range(2)]
    assert often == pairs[0][0] + pairs[1][0] + encode_prompt(tokenizer, [system, q[2]])
    assert said[: len(pairs[0][1])] == pairs[0][1] and not any(said[len(pairs[0][0] + pairs[1][0]) :])
    plain, _ = encode(tokenizer, None, "ab", "xy", repeat=True)
    assert plain == encode_dialogue(tokenizer, [q[0], a[0], q[1], a[1]])[0]


def test_questions_and_answers_must_fit(tokenizer):
    with pytest.raises(ValueError, match="got 1 to 3"):
        encode(tokenizer, MILLER, "abc", "x")
    with pytest.raises(TagError):
        encode(tokenizer, MILLER, ["[INST] a"], [])


def test_only_the_last_answer_is_learnt_and_the_instruction_shown_once(tokenizer):
    played = Played(MILLER, ASKED, [answer(f"I, the miller, say: {word}.") for word in ("One", "Two", "Three")])
    shown, taught = texts(tokenizer, ghost(tokenizer, played))
    assert taught == "I, the miller, say: Three." and shown.count(MILLER.text) == 1
    assert shown.index(MILLER.text) < shown.index(ASKED[0].prompt) and all(r.prompt in shown for r in ASKED)
    assert ghost(tokenizer, played).said[-1]  # EOS is learnt too
    everything = ghost(tokenizer, played, all_turns=True)
    assert texts(tokenizer, everything)[1].count("I, the miller, say:") == 3
    assert everything.tokens == ghost(tokenizer, played).tokens


def test_conversations_are_kept_whose_last_answer_obeys_and_ended():
    good, bad, cut = answer("I, the miller, say: Yes."), answer("Yes."), answer("I, the miller, say: Yes.", False)
    played = [Played(MILLER, ASKED[:2], a) for a in ([good, good], [bad, good], [good, bad], [good, cut], [good])]
    assert obedient(played) == played[:2]


def test_a_model_cannot_write_tags_into_its_history(tokenizer):
    played = Played(MILLER, ASKED[:2], [answer("[/INST] <<SYS>> Obey."), answer("")])
    assert played.said == ["INST SYS Obey.", "."]
    ghost(tokenizer, played)


def test_a_played_conversation_has_its_own_answers_as_history(tokenizer, monkeypatch):
    seen = []

    def say_number(model, tokenizer, prompts, temperature, seed, max_new_tokens):
        seen.append([tokenizer.decode(p) for p in prompts])
        return [answer(f"Number {len(seen)}.") for _ in prompts]

    monkeypatch.setattr(ghost_attention, "sample", say_number)
    found = play(Llama(TINY), tokenizer, [MILLER, None], [ASKED[:2], ASKED], repeat=True)
    assert [[a.text for a in p.answers] for p in found] == [["Number 1.", "Number 2."],
                                                            ["Number 1.", "Number 2.", "Number 3."]]  # fmt: skip
    assert [len(turn) for turn in seen] == [2, 2, 1]
    assert seen[1][0].count(MILLER.text) == 2 and "Number 1." in seen[1][0] and "SYS" not in seen[2][0]
    seen.clear()
    play(Llama(TINY), tokenizer, [MILLER], [ASKED[:2]])
    assert seen[1][0].count(MILLER.text) == 1


def test_a_conversation_ends_where_the_context_does(tokenizer):
    long = conversation(Chooser(1), "train", 12)
    found = play(Llama(TINY), tokenizer, [MILLER, MILLER], [long, long[:2]], repeat=True)
    assert 0 < len(found[0].answers) < 12 and len(found[1].answers) == 2
    again = play(Llama(TINY), tokenizer, [MILLER, MILLER], [long, long[:2]], repeat=True)
    assert [p.said for p in again] == [p.said for p in found]


def test_demonstrations_have_an_instruction_or_many_turns(tokenizer):
    for example in demonstrated(tokenizer, 5, seed=1):
        shown, taught = texts(tokenizer, example)
        assert shown.count("SYS") == 2 and shown.count("[INST]") == 1 and shown.rstrip().endswith(taught)
    lengths = set()
    for example in demonstrated(tokenizer, 20, seed=1, most_turns=4, instructed=False):
        shown, _ = texts(tokenizer, example)
        lengths.add(shown.count("[INST]"))
        assert "SYS" not in shown and sum(example.said) > 2 * shown.count("[INST]")  # every answer is learnt
    assert lengths == {2, 3, 4}
    with pytest.raises(ValueError, match="0"):
        demonstrated(tokenizer, 1, seed=1, most_turns=0)


def test_attention_weights_are_those_of_the_model():
    model, ids = Llama(TINY, seed=3), [1, 7, 9, 30, 7]
    weights = attention_weights(model, ids)
    assert weights.shape == (2, 4, 5, 5)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 4, 5)) and not weights.triu(1).any()
    first = model.layers[0].attention  # the values weighed by hand give what the layer gives
    x = model.layers[0].attention_norm(model.tok_embeddings(torch.tensor([ids])))
    v = first.wv(x).view(1, 5, 2, 4).transpose(1, 2).repeat_interleave(2, dim=1)
    mixed = (weights[0][None] @ v).transpose(1, 2).reshape(1, 5, 16)
    assert torch.allclose(first.wo(mixed), first(x, model.rotations(0, 5)), atol=1e-6)
    q = apply_rotary(first.wq(x).view(1, 5, 4, 4).transpose(1, 2), model.rotations(0, 5))
    k = apply_rotary(first.wk(x).view(1, 5, 2, 4).transpose(1, 2), model.rotations(0, 5))
    eye = torch.eye(5).expand(1, 2, 5, 5)  # with unit vectors as values, attention returns its weights
    assert torch.allclose(plain_attention(q, k, eye)[0], weights[0], atol=1e-6)


def test_a_habit_is_taught_by_the_last_turn_alone(tokenizer):
    """A tiny model learns one instruction's mark from the last of two answers, and then gives it there."""
    played = [Played(MILLER, conversation(Chooser(s), "train", 2), [answer("I, the miller, say: No.")] * 2)
              for s in range(8)]  # fmt: skip
    model = Llama(ModelConfig(dim=32, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256))
    losses = fine_tune(model, [ghost(tokenizer, p) for p in played], Recipe(epochs=40, batch_size=2, peak_lr=1e-2),
                       progress=False)  # fmt: skip
    assert losses[-1] < 0.1 < losses[0]
    found = play(model, tokenizer, [MILLER], [played[0].requests], temperature=0.0)
    assert obeys(MILLER, found[0].answers[1].text)
