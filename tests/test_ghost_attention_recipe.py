"""The recipe behind chapter 16: what is stored belongs together, and a stopped run goes on with the same."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import ghost_attention  # noqa: E402

from minillama.alignment.ghost_attention import Played, encode  # noqa: E402
from minillama.alignment.sampling import Answer  # noqa: E402
from minillama.alignment.sft import Recipe  # noqa: E402
from minillama.model.checkpoints import load_safetensors, save_safetensors  # noqa: E402
from minillama.model.config import ModelConfig  # noqa: E402
from minillama.model.transformer import Llama  # noqa: E402
from minillama.village.instructions import conversation, held_out, instruct, obey  # noqa: E402
from minillama.village.language import Chooser  # noqa: E402
from minillama.village.requests import requests, split_of  # noqa: E402

TINY = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=256)
QUICK = Recipe(epochs=1, batch_size=4, peak_lr=1e-3, context=400)
SIZES = replace(
    ghost_attention.SIZES, single=20, long=2, most_turns=3, replay=5, sampled=6, quiet=3, asked=2, some=2, before=QUICK,
    after=QUICK,
)  # fmt: skip


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Two seeds of a finished recipe `alignment`, whose models have learnt nothing; small sizes."""
    for seed in (0, 1):
        folder = tmp_path / "alignment" / f"seed-{seed}"
        folder.mkdir(parents=True)
        save_safetensors(Llama(TINY, seed), folder / f"v{ghost_attention.ROUNDS}.safetensors")
        row = [[1, 5, 2], [False, True, True]]
        (folder / f"best{ghost_attention.ROUNDS}.json").write_text(json.dumps([row] * 8))
    monkeypatch.setattr(ghost_attention, "SEEDS", (0, 1))
    monkeypatch.setattr(ghost_attention, "SIZES", SIZES)
    monkeypatch.setattr(ghost_attention, "TURNS", 3)
    monkeypatch.setattr(ghost_attention.Ghosts.__init__, "__defaults__", (SIZES,))
    monkeypatch.setattr(ghost_attention, "test_requests", lambda: requests("test", 12, 0))
    return tmp_path


def everybody_obeys(seen):
    """Stands for `play`: all answers obey."""

    def play(model, tokenizer, instructions, conversations, repeat, *rest, **more):
        seen.append((repeat, instructions, conversations))
        return [
            Played(i, c, [Answer(obey(i, "Bread.") if i else "Bread.", (5, 2), True) for _ in c])
            for i, c in zip(instructions, conversations, strict=True)
        ]

    return play


def test_measures_are_of_the_right_model_and_kept(work, monkeypatch):
    seen = []
    monkeypatch.setattr(ghost_attention, "play", everybody_obeys(seen))
    ghost_attention.main(work, work)
    stored = json.loads((work / ghost_attention.OUTPUTS[2]).read_text())
    assert [run["seed"] for run in stored["runs"]] == [0, 1] and len(stored["families"]) == 6
    for run in stored["runs"]:
        assert run["sampled"]["kept"] == run["sampled"]["of"] == 6
        assert sum(both[1] for both in run["sampled"]["by_turns"].values()) == 6
        for name in ("before", "ghost", "repeated", "all turns", "unseen kind, ghost", "unseen pair, before"):
            assert run[name]["kept"] == ["111", "111"] and [len(row) for row in run[name]["helpful"]] == [3, 3]
        assert run["no instruction, ghost"]["kept"] == run["no instruction, ghost"]["marked"] == ["000", "000"]
        assert all("Address" in t or "call me" in t for t in run["unseen kind, ghost"]["instructions"])
        assert all(len(run[f"ordinary, {name}"]["helpful"]) == 6 for name in ("v3", "before", "ghost"))
    before, after = (load_safetensors(work / name) for name in ghost_attention.OUTPUTS[:2])
    assert before.config.max_seq_len == after.config.max_seq_len == ghost_attention.ROOM
    assert (before.output.weight != after.output.weight).any()
    # the same conversations with every model; sampled ones are of training questions, measured ones of test questions
    of_seed = [c for repeat, _, c in seen if len(c) == 2][:3]
    assert of_seed[0] == of_seed[1] == of_seed[2]
    for _, instructions, conversations in seen:
        sets = {split_of(r) for c in conversations for r in c}
        assert sets == ({"train"} if len(conversations) == 6 else {"test"})
        if len(conversations) == 6:
            assert all(kind in SIZES.kinds for i in instructions for kind, _ in i.attributes)
            assert not any(map(held_out, instructions))
    unseen = [[i for i in instructions if i and held_out(i)] for _, instructions, _ in seen]
    assert sorted(map(len, unseen)) == [0] * 18 + [2] * 4  # before and after, in both runs
    monkeypatch.setattr(ghost_attention, "play", None)  # nothing is played or tuned again
    monkeypatch.setattr(ghost_attention, "fine_tune", None)
    ghost_attention.main(work, work)
    assert json.loads((work / ghost_attention.OUTPUTS[2]).read_text()) == stored


def test_lessons_show_an_instruction_for_one_turn_only_and_many_turns_without(work):
    ghosts = ghost_attention.Ghosts(work, 0, SIZES)
    shown = [ghosts.tokenizer.decode(list(e.tokens)) for e in ghosts.lessons(1.0, 3)]
    assert len(shown) == 27
    with_one = [text for text in shown if "SYS" in text]
    assert len(with_one) == 20 and all(text.count("[INST]") == 1 for text in with_one)
    assert sorted(text.count("[INST]") > 1 for text in shown) == [False] * 25 + [True] * 2


def test_all_turns_differ_from_the_last_in_what_is_learnt_only(work, monkeypatch):
    learnt = []
    monkeypatch.setattr(ghost_attention, "play", everybody_obeys([]))
    monkeypatch.setattr(ghost_attention, "fine_tune", lambda model, examples, recipe: learnt.append(examples))
    ghosts = ghost_attention.Ghosts(work, 0, SIZES)
    ghosts.model("ghost"), ghosts.model("all turns")
    _, last, every = learnt
    assert [e.tokens for e in last] == [e.tokens for e in every]
    assert sum(sum(e.said) for e in last[:6]) < sum(sum(e.said) for e in every[:6])
    assert [e.said for e in last[6:]] == [e.said for e in every[6:]]


def test_a_longer_context_leaves_what_a_model_says_unchanged(work):
    ghosts, asked = ghost_attention.Ghosts(work, 0, SIZES), conversation(Chooser(0), "test", 1)
    ids, _ = encode(ghosts.tokenizer, instruct({"hobby": "kites"}), [asked[0].prompt], [])
    tokens = ghost_attention.torch.tensor([ids])
    assert (Llama(TINY, 3)(tokens) == ghost_attention.roomy(Llama(TINY, 3))(tokens)).all()
