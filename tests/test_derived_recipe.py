"""The recipes behind chapter 20: every student has its lessons and its seed, and a stopped run goes on."""

import json
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA))

from recipes import derived, lora  # noqa: E402

from minillama.alignment.ghost_attention import Played  # noqa: E402
from minillama.alignment.sampling import Answer  # noqa: E402
from minillama.alignment.sft import Recipe  # noqa: E402
from minillama.family.explanations import STRATEGIES  # noqa: E402
from minillama.model.config import ModelConfig  # noqa: E402
from minillama.model.transformer import Llama  # noqa: E402
from minillama.village.requests import requests, split_of  # noqa: E402

TINY = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=2048, multiple_of=16, max_seq_len=512)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Models that have learnt nothing, a small exam, and a note of what each was tuned on."""
    tuned = []

    def fine_tune(model, examples, recipe):
        tuned.append((examples, recipe))
        return [0.0] * 12

    def quiet(model, tokenizer, asked, *rest, **more):
        return [Answer("Yes.", (2,), True) for _ in asked]

    def ended(model, tokenizer, instructions, asked, *rest, **more):
        return [Played(None, c, [Answer("Yes.", (2,), True)] * len(c)) for c in asked]

    for module in (derived, lora):
        monkeypatch.setattr(module, "SEEDS", (0, 1))
        monkeypatch.setattr(module, "load_base", lambda: Llama(TINY))
        monkeypatch.setattr(module, "fine_tune", fine_tune)
        monkeypatch.setattr(module, "bits_per_character", lambda *rest: 1.0)
        monkeypatch.setattr(module, "ask", quiet)
        monkeypatch.setattr(module, "ASKED", 6)
        monkeypatch.setattr(module, "BUDGET", 600)
        monkeypatch.setattr(module, "NUMBER", 60)
    monkeypatch.setattr(derived, "EXPLAINED", 60)
    monkeypatch.setattr(derived, "teacher", lambda: Llama(TINY))
    prompts = [r.prompt for r in requests("train", 30, 0, ["fact"])]
    monkeypatch.setattr(derived, "written", lambda: {"requests": prompts, "reasons": {"taken": 30}})

    def answered(teacher, tokenizer, asked, seed):
        return [(r, "Mara has a dog.") for r in asked]

    monkeypatch.setattr(derived.derived, "answered", answered)
    monkeypatch.setattr(derived.derived, "ask", quiet)
    monkeypatch.setattr(derived.derived, "play", ended)
    # a teacher that never obeys leaves WizardLM the requests without a constraint
    return tmp_path, tuned


def test_students_have_equal_budgets_and_their_own_lessons_and_are_kept(small, monkeypatch):
    work, tuned = small
    derived.main(work, work)
    stored = json.loads((work / derived.OUTPUTS[0]).read_text())
    names = {"base", "teacher", *derived.CONDITIONS, *derived.CONTROLS}
    assert set(stored["runs"]) == names
    for name, runs in stored["runs"].items():
        assert set(runs) == ({"0"} if name in derived.CONTROLS else {"0", "1"})
    for name in (*derived.CONDITIONS, *derived.CONTROLS):
        for run in stored["runs"][name].values():
            assert 600 - 320 < run["tokens"] <= 600 and run["learnt"] < run["tokens"]
            assert [len(run[part]) for part in ("ordinary", "tales", "sums", "constrained", "sums, told")] == [6] * 5
            assert len(run["conversations"]) == 6  # two of four turns, without the first
    assert len(stored["families"]) == len(stored["levels"]) == len(stored["unseen_sums"]) == 6
    assert [recipe.seed for _, recipe in tuned] == [0] * 6 + [1] * 6 + [0]
    tok = derived.tokenizer()
    texts = ["\n".join(tok.decode(list(e.tokens)) for e in examples) for examples, _ in tuned]
    explained = [text.count("Answer:") > 0 for text in texts]
    assert explained == [True, *[False] * 5] * 2 + [True]
    assert not any(STRATEGIES["direct answer"] in text for text in texts)  # erased
    for name in ("fine_tune", "written", "teacher"):
        monkeypatch.setattr(derived, name, None)  # nothing is made again
    derived.main(work, work)
    assert json.loads((work / derived.OUTPUTS[0]).read_text()) == stored


def test_the_exam_is_of_test_requests(small):
    paper = derived.exam("test", derived.ASKED, derived.ASKED_SEED)
    assert {split_of(r) for r in paper.ordinary + paper.tales + paper.sums} == {"test"}


def test_an_unknown_student_is_an_error(small):
    with pytest.raises(KeyError, match="dolly"):
        derived.lessons("dolly", 0, small[0])


def test_lora_runs_have_the_chosen_rates_and_are_kept(small, monkeypatch):
    work, tuned = small
    monkeypatch.setattr(lora, "PLANS", {name: lora.PLANS[name] for name in ("full", "lora 1", "lora 8")})
    lora.main(work, work)
    stored = json.loads((work / lora.OUTPUTS[0]).read_text())
    assert set(stored["runs"]) == set(lora.PLANS) and set(stored["rates"]) == {"full", "lora"}
    sizes = {name: runs["0"]["trained"] for name, runs in stored["runs"].items()}
    assert sizes["full"] == TINY.n_parameters() > sizes["lora 8"] == 8 * sizes["lora 1"]
    for name, runs in stored["runs"].items():
        assert {run["rate"] for run in runs.values()} == {stored["rates"][name.split()[0]]}
        assert all(len(run["marks"]) == 6 for run in runs.values())
    assert [recipe.seed for _, recipe in tuned] == [lora.SWEEP_SEED] * 9 + [0] * 3 + [1] * 3
    monkeypatch.setattr(lora, "fine_tune", None)
    lora.main(work, work)
    assert json.loads((work / lora.OUTPUTS[0]).read_text()) == stored


def test_the_rate_with_the_best_marks_is_taken(small, monkeypatch):
    work, tuned = small
    monkeypatch.setattr(lora, "PLANS", {"full": (None, ())})
    monkeypatch.setattr(lora, "SWEPT", {"full": "full"})
    marks = iter([[0.2], [0.9], [0.5], [0.1], [0.1]])
    monkeypatch.setattr(
        lora, "tuned", lambda rank, targets, rate, seed, split: {"rate": rate, "seed": seed, "split": split,
                                                                 "marks": next(marks)}
    )  # fmt: skip
    lora.main(work, work)
    stored = json.loads((work / lora.OUTPUTS[0]).read_text())
    assert stored["rates"] == {"full": lora.RATES["full"][1]}
    assert {run["split"] for run in stored["sweep"]["full"].values()} == {"validation"}
    assert [(r["rate"], r["split"]) for r in stored["runs"]["full"].values()] == [(lora.RATES["full"][1], "test")] * 2


def test_all_are_tuned_alike():
    first, second = derived.recipe_of(0), derived.recipe_of(1)
    assert isinstance(first, Recipe) and first.seed != second.seed
    assert vars(first) | {"seed": 1} == vars(second)


def test_the_findings_of_chapter_20_are_in_the_files():
    runs = json.loads((DATA / derived.OUTPUTS[0]).read_text())["runs"]

    def right(name):
        return [x >= 0.8 for run in runs[name].values() for x in run["sums"]]

    assert sum(right("orca")) / len(right("orca")) > 0.3
    assert sum(right("orca, no traces")) / len(right("orca, no traces")) < 0.2
    turns = {name: sum(sum(r["conversations"]) for r in runs[name].values()) for name in ("alpaca", "vicuna")}
    assert turns["alpaca"] < turns["vicuna"]
    tuned = json.loads((DATA / lora.OUTPUTS[0]).read_text())["runs"]
    marks = {name: sum(sum(r["marks"]) / len(r["marks"]) for r in rs.values()) / len(rs) for name, rs in tuned.items()}
    assert marks["lora 1"] < marks["lora 16"] < marks["full"] + 0.05
