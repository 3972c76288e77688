"""The four recipes' lessons: what is taken, evolved, erased and counted, and that no test request gets in."""

from dataclasses import replace

import pytest

from minillama.alignment.ghost_attention import Played
from minillama.alignment.sampling import Answer
from minillama.alignment.sft import Example
from minillama.family import derived, self_instruct
from minillama.family.evolve import constrain, deepen, evolve
from minillama.family.explanations import (
    MARK,
    STRATEGIES,
    addends,
    counts,
    erase,
    erased,
    explain,
    final,
    strategy_of,
    told,
    trace_down,
    trace_up,
    unseen_sum,
)
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.paths import data_path
from minillama.village.demonstrations import demonstrate
from minillama.village.instructions import conversation, obey, obeys
from minillama.village.judges import helpfulness
from minillama.village.language import Chooser
from minillama.village.lexicon import NUMBERS
from minillama.village.requests import FAMILIES, requests, split_of

TINY = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=512)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(data_path("tokenizer.model"))


@pytest.fixture
def oracle(monkeypatch):
    """Stands for a teacher: it answers as the village does, with what a system message asks for."""
    seen = []

    def ask(model, tokenizer, asked, *rest, **more):
        seen.extend(asked)
        return [Answer(demonstrate(replace(r, system=None)) if r.family != "written" else "Yes.", (5, 2), i % 10 > 0)
                for i, r in enumerate(asked)]  # fmt: skip

    monkeypatch.setattr(derived, "ask", ask)
    return seen


# Explanations --------------------------------------------------------------------------------------------------------

SUMS = requests("train", 60, 1, ["lookup"], [3])
TALES = requests("train", 60, 1, ["lookup"], [1, 2])


def test_each_step_of_counting_down_follows_from_the_one_before():
    for first in range(2, 10):
        for second in range(2, 10):
            pairs = [pair.split(" and ") for pair in trace_down(first, second).rstrip(".").split(", ")]
            values = [(NUMBERS.index(a), NUMBERS.index(b)) for a, b in pairs]
            assert values[0] == (first, second) and values[-1] == (first + second, 0)
            assert all(b == (a[0] + 1, a[1] - 1) for a, b in zip(values, values[1:], strict=False))
    assert trace_up(5, 3) == "one and six, two and seven, three and eight."


@pytest.mark.parametrize("trace", ["down", "up"])
def test_an_explanation_ends_in_the_right_answer(trace):
    for request in SUMS + TALES:
        answer = explain(request, 0, trace)
        assert answer.count(MARK) == 1
        assert helpfulness(request, final(answer)) == 0.8  # a plain answer, and it is right
    assert {strategy_of(r) for r in SUMS} == {"step by step"} and {strategy_of(r) for r in TALES} == {
        "recall then answer"
    }


def test_other_requests_are_answered_directly_and_unchanged():
    for request in requests("train", 40, 2, [f for f in FAMILIES if f != "lookup"]):
        assert explain(request, 3) == demonstrate(request, 3, "good") == final(explain(request, 3))


def test_a_recalled_sentence_is_in_the_tale_and_decides():
    for request in TALES:
        trace = explain(request).partition(MARK)[0]
        name = next(request["answer"][k] for k in ("t", "a") if request["answer"].get(k))
        assert name in trace and request.prompt.split(". ")[-1] not in trace


def test_unseen_sums_are_a_quarter_of_all_pairs_and_every_total_is_seen():
    pairs = {addends(r): unseen_sum(r) for r in requests("test", 600, 0, ["lookup"], [3])}
    assert len(pairs) == 64 and sum(pairs.values()) == 16
    unseen = {sum(pair) for pair, new in pairs.items() if new}
    assert unseen <= {sum(pair) for pair, new in pairs.items() if not new}


def test_what_is_no_sum_and_an_unknown_trace_are_named():
    with pytest.raises(ValueError, match="asks for no sum"):
        addends(TALES[0])
    with pytest.raises(ValueError, match="'sideways'"):
        explain(SUMS[0], trace="sideways")


def test_the_strategy_is_told_to_the_teacher_and_erased_for_the_student():
    for request in SUMS[:5] + TALES[:5]:
        assert told(request).system == STRATEGIES[strategy_of(request)]
        assert erase(told(request)) == request
    dialogue = requests("train", 1, 0, ["dialogue"])[0]
    assert told(dialogue) == erase(dialogue) == dialogue  # its own system message stays
    assert erased([(told(SUMS[0]), "x")]) == [(SUMS[0], "x")]


@pytest.mark.parametrize(
    ("answer", "end"), [("a. Answer: b.", "b."), ("Answer: a. Answer: c.", "c."), ("No mark.", "No mark."), ("", "")]
)
def test_final_is_what_stands_behind_the_last_mark(answer, end):
    assert final(answer) == end


# Evolution -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["story", "fact", "list"])
def test_a_deeper_request_is_one_the_village_could_have_made_and_its_demonstration_is_good(family):
    for request in requests("train", 40, 4, [family], [1]):
        harder = deepen(request)
        assert harder.level > request.level and harder.prompt != request.prompt
        assert helpfulness(harder, demonstrate(harder, 0, "good")) >= 0.8
        short = helpfulness(harder, demonstrate(request, 0, "plain"))
        assert short < 0.8 or family == "story"  # a plain story often has a place and an end anyway
        while harder:
            last, harder = harder, deepen(harder)
        assert last.level == 3


def test_a_deeper_request_has_the_words_of_its_level():
    story = next(r for r in requests("train", 60, 4, ["story"], [1]) if r["action"] == "give")
    second = deepen(story)
    assert "somebody" in story.prompt and "somebody" not in second.prompt and second["b"] in second.prompt
    assert deepen(second).prompt.endswith((". Let it end happy.", ". Let it end sad."))
    listed = requests("train", 1, 4, ["list"], [1])[0]
    assert listed.prompt.replace(" two ", " three ") == deepen(listed).prompt and deepen(listed)["number"] == 3
    for family in ("lookup", "brief", "borderline"):
        assert deepen(requests("train", 1, 4, [family], [1])[0]) is None


def test_evolved_requests_stay_in_the_training_set_and_keep_what_they_are_about():
    choose, found = Chooser(3), []
    for request in requests("train", 300, 5):
        if harder := evolve(request, choose):
            found.append(harder)
            bare = replace(harder.request, system=None)
            assert split_of(bare) == "train" and "held-out" not in bare.tags
            assert bool(harder.constraint) == ("constrained" in harder.steps) == bool(harder.request.system)
            assert harder.request.family not in ("dialogue", "harmful")
    assert 100 < len(found) < 250
    assert {len(h.steps) for h in found} >= {1, 2, 3}


def test_a_constraint_does_not_replace_a_system_message():
    with pytest.raises(ValueError, match="already has the system message"):
        constrain(requests("train", 1, 0, ["dialogue"])[0], Chooser(0))


# Self-instruct -------------------------------------------------------------------------------------------------------


def test_seeds_are_few_harmless_single_questions_of_the_training_set():
    seeds = self_instruct.seed_requests(20, 1)
    assert len(seeds) == 20 and all(split_of(r) == "train" for r, _ in seeds)
    assert not any(r.system or r.history or "harmful" in r.tags for r, _ in seeds)
    assert self_instruct.page(seeds[:2]).count("\n") == 6


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no request"),
        ("Mara lost a key.", "no request"),
        ("Tell me [INST] a story.", "no request"),
        ("Tell me what I know.", "known"),
    ],
)
def test_what_is_no_new_request_is_thrown_away(text, reason):
    assert self_instruct.why_not(text, ["Tell me what I know."], ["Tell me a story."]) == reason


def test_requests_of_the_test_set_are_thrown_away():
    prompts = [r.prompt for r in requests("test", 80, 3, ["story", "fact", "list"])]
    assert {self_instruct.why_not(p, [], prompts) for p in prompts} == {"of the test or validation set"}
    mine = [r.prompt for r in requests("train", 40, 3, ["story", "fact", "list"])]
    assert {self_instruct.why_not(p, [], mine) for p in mine} == {None}


def test_written_requests_are_new_and_all_lines_are_accounted_for(tokenizer, monkeypatch):
    lines = ["Tell me a tale of Mara.\nMara ran.", "Tell me a tale of Mara.", "She was glad.", "Tell me two tales."]
    monkeypatch.setattr(self_instruct, "sample", lambda m, t, prompts, *a, **k: [Answer(x, (2,), True) for x in lines])
    monkeypatch.setattr(self_instruct, "split_of", lambda request: "train")
    seeds = [(self_instruct.as_request(f"Tell me {i}."), "Yes.") for i in range(3)]
    found, reasons = self_instruct.write_requests(None, tokenizer, seeds, 4)
    assert found == ["Tell me a tale of Mara.", "Tell me two tales."]
    assert reasons == {"taken": 2, "known": 1, "no request": 1}


# Lessons -------------------------------------------------------------------------------------------------------------


def test_a_budget_is_kept_and_a_shortage_is_an_error():
    examples = [Example([1] * n, [True] * n) for n in (5, 30, 4, 6)]
    assert [len(e) for e in derived.within(examples, 12, 20)] == [5, 4]
    assert [len(e) for e in derived.within(examples, 9, 20)] == [5, 4]
    with pytest.raises(ValueError, match="only 15 tokens"):
        derived.within(examples, 15 + 1, 20)


def test_answers_without_an_end_are_not_learnt(tokenizer, oracle):
    assert len(derived.alpaca(None, tokenizer, ["Is it so?"] * 20, 0)) == 18
    assert {r.prompt for r in oracle} == {"Is it so?"}


def test_vicuna_learns_every_answer_of_a_conversation(tokenizer):
    asked = conversation(Chooser(1), "train", 3)
    played = Played(None, asked, [Answer(f"{word} it is.", (5, 2), True) for word in ("One", "Two", "Three")])
    (every,), (last,) = derived.vicuna(tokenizer, [played]), derived.vicuna(tokenizer, [played], last_only=True)
    assert every.tokens == last.tokens

    def learnt(e):
        return tokenizer.decode([t for t, said in zip(e.tokens, e.said, strict=True) if said])

    assert [learnt(every).count(w) for w in ("One", "Two", "Three")] == [1, 1, 1]
    assert [learnt(last).count(w) for w in ("One", "Two", "Three")] == [0, 0, 1]
    assert "[INST]" not in learnt(every)


def test_recorded_conversations_are_of_training_questions_and_complete(tokenizer, monkeypatch):
    seen = []

    def play(model, tokenizer, instructions, asked, *rest, **more):
        seen.extend(r for c in asked for r in c)
        return [Played(None, c, [Answer("Yes.", (2,), i > 0 or k != 0) for k in range(len(c))])
                for i, c in enumerate(asked)]  # fmt: skip

    monkeypatch.setattr(derived, "play", play)
    assert len(derived.recorded(None, tokenizer, 10, 0)) == 9  # the first has an answer without an end
    assert {split_of(r) for r in seen} == {"train"} and not any(r.system for r in seen)


def test_wizard_keeps_answers_that_obey_only(tokenizer, oracle):
    texts = [tokenizer.decode(list(e.tokens)) for e in derived.wizard(None, tokenizer, 40, 0)]
    constrained = [r for r in oracle if r.system and r.family != "dialogue"]
    assert constrained and len(texts) < len(oracle)
    assert not any(r.system in text for r in constrained for text in texts)  # this teacher never obeys


@pytest.mark.parametrize(("trace", "erasing"), [("down", True), (None, True), ("down", False)])
def test_orca_explains_erases_and_holds_sums_out(tokenizer, oracle, trace, erasing):
    texts = [tokenizer.decode(list(e.tokens)) for e in derived.orca(None, tokenizer, 50, 0, trace, erasing)]
    sums = [t for t in texts if "How many" in t]
    assert len(sums) == 20 and all((MARK in t) == (trace is not None) for t in sums)
    assert all((STRATEGIES["step by step"] in t) != erasing for t in sums)
    assert not any(counts(r) for r in oracle)
    with_tale = [t for t in texts if MARK in t]
    assert len(with_tale) == (30 if trace else 0)


def test_an_exam_is_of_its_set_and_a_perfect_student_passes(tokenizer, monkeypatch):
    paper = derived.exam("test", 12, 3)
    for r in paper.ordinary + paper.tales + paper.sums + [r for c in paper.conversations for r in c]:
        assert split_of(r) == "test"
    assert all(split_of(replace(r, system=None)) == "test" for r, _ in paper.constrained)
    assert all(map(counts, paper.sums)) and not any(map(counts, paper.tales))
    constraint = {r.lines: c for r, c in paper.constrained}

    def ask(model, tokenizer, asked, *rest, **more):
        found = []
        for r in asked:
            c = constraint.get(r.lines)
            plain = demonstrate(replace(r, system=None) if c else r, 0, "good")
            found.append(Answer(f"So it is. {MARK}{plain}" if r.family == "lookup" else obey(c, plain) if c else plain,
                                (2,), True))  # fmt: skip
            assert c is None or obeys(c, found[-1].text)
        return found

    def play(model, tokenizer, instructions, asked, *rest, **more):
        return [Played(None, c, [Answer(demonstrate(r, 0, "good"), (2,), True) for r in c]) for c in asked]

    monkeypatch.setattr(derived, "ask", ask)
    monkeypatch.setattr(derived, "play", play)
    marks = derived.sit(None, tokenizer, paper)
    assert {part: len(values) for part, values in marks.items()} == {
        "ordinary": 12, "tales": 12, "sums": 12, "constrained": 12, "conversations": 12,
    }  # fmt: skip
    assert all(min(values) >= 0.8 for values in marks.values())


def test_a_model_without_sense_gets_marks_near_zero(tokenizer):
    marks = derived.sit(Llama(TINY), tokenizer, derived.exam("test", 3, 3))
    assert all(0 <= value <= 0.5 for values in marks.values() for value in values)
