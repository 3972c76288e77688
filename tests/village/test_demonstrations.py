"""Demonstrations are consistent, short, never show what is held out, and pages are made of training requests."""

import re
import statistics
import time

import pytest

from minillama.village import core
from minillama.village.demonstrations import QUALITIES, demonstrate
from minillama.village.lexicon import HELD_OUT_NAMES, PEOPLE
from minillama.village.pages import page
from minillama.village.requests import SPLITS, requests
from minillama.village.stories import check, held_out
from minillama.village.understanding import understand

SETS = {split: requests(split, 150, seed=1) for split in SPLITS}
ALL = [r for split in SPLITS for r in SETS[split]]
PAGES = [page(seed) for seed in range(1500)]


def words(text):
    return re.findall(r"[A-Za-z']+", text)


def test_the_same_seed_gives_the_same_answer():
    for r in ALL[::10]:
        for quality in QUALITIES:
            assert demonstrate(r, 3, quality) == demonstrate(r, 3, quality)
    assert len({demonstrate(ALL[0], seed) for seed in range(20)}) > 3
    with pytest.raises(ValueError, match="quality"):
        demonstrate(ALL[0], 0, "bad")


def held_out_events(text):
    """Events of a text that put together what is held out."""
    events = [*(r.event for r in check(text).readings if r.event), *understand(text).facts]
    for e in events:
        people = [e[s] for s in ("a", "b") if e.get(s)]
        if set(people) & HELD_OUT_NAMES or any(e.get("p") and held_out(a, e["p"]) for a in people):
            yield e
        if e.kind in core.ACTIONS and held_out(e.kind, e["t"]):
            yield e


def test_answers_to_training_requests_show_nothing_held_out():
    for r in SETS["train"] + SETS["validation"]:
        for quality in QUALITIES:
            answer = demonstrate(r, 0, quality)
            assert not list(held_out_events(answer)), (r.prompt, answer)
            assert not set(words(answer)) & HELD_OUT_NAMES, (r.prompt, answer)
    a, p = next((a, p) for a in core.NAMES for p in core.SPOTS if held_out(a, p))
    assert list(held_out_events(core.write([core.event("go", a=a, p=p)], core.Chooser(1))))


def test_plain_and_good_tales_have_no_contradictions():
    for r in ALL:
        if r.family in ("story", "rewrite", "summary", "continue"):
            for quality in ("plain", "good"):
                answer = demonstrate(r, 0, quality)
                text = f"{r['tale']} {answer}" if r.family == "continue" else answer
                result = check(text)
                assert r.family == "summary" or not result.problems, (r.prompt, answer, result.problems)
                assert not result.unread, (r.prompt, answer)


def test_a_few_hundred_words_and_short_answers():
    texts = [" ".join([*r.lines, demonstrate(r, 0, q)]) for r in SETS["train"] for q in QUALITIES]
    assert 250 < len({w.lower() for t in texts for w in words(t)}) < 600
    lengths = [len(words(demonstrate(r, 0, q))) for r in ALL for q in QUALITIES]
    assert max(lengths) <= 58 and 8 < statistics.mean(lengths) < 25
    brief = [len(words(demonstrate(r, 0, q))) for r in ALL if r.family == "brief" for q in ("plain", "good")]
    assert sum(brief[1::2]) < sum(brief[::2])


def test_pages_are_deterministic_and_differ():
    assert page(5) == PAGES[5]
    assert len(set(PAGES)) > 1400


def test_pages_are_made_of_training_requests_only():
    others = {r.lines for split in ("validation", "test") for r in requests(split, 700, seed=3)}
    tales = {r["tale"] for s in ("validation", "test") for r in requests(s, 200, seed=3, families=["lookup"])}
    training = {r.lines for r in requests("train", 3000, seed=4)}
    for text in PAGES:
        lines = text.split("\n")
        for size in (1, 2, 4, 6, 8):
            assert tuple(lines[:size]) not in others
        assert not any(lines[0].startswith(tale) for tale in tales)
        assert not set(words(text)) & HELD_OUT_NAMES
    assert sum(tuple(text.split("\n")[:1]) in training for text in PAGES) > 50  # the test could see them


def test_pages_hold_all_kinds_of_text():
    def share(pattern):
        return sum(bool(re.search(pattern, p)) for p in PAGES) / len(PAGES)

    assert 0.03 < share(r"^\w+ (loses|finds|makes|breaks|gives) a \w+[^.\n]*\n") < 0.1  # titled stories
    assert share(r"(Who has|Where is|How does|How many)[^\n]*\?\n") > 0.1
    assert share(r"(Who has|Where is|How does)[^\n]*\?\n[^\n]+\n(Who has|Where is|How does)[^\n]*\?\n") > 0.03
    assert share(r"I will not help with that") > 0.01
    assert 0.01 < share(r"into the mud|Nobody likes you|[Tt]ake the \w+ and run|called \w+ a|pointed at") < 0.2
    assert 0.005 < share(r"Find it out yourself|Nobody wants to talk|What a question") < 0.05
    assert share(r"^Always (begin|end) with") > 0.03
    assert all(1 < p.count("\n") + 1 <= 16 and p.count("\n\n") == 0 for p in PAGES)


def test_every_core_fact_is_told_on_pages():
    told = set()
    for text in (page(seed) for seed in range(6000, 10_000)):
        told |= {f for line in text.split("\n") for f in understand(line).facts}
    wanted = {core.fact(n, k) for n, kinds in core.KNOWN.items() if n not in HELD_OUT_NAMES for k in kinds}
    assert wanted <= told
    assert PEOPLE["Mara"].home in {f.get("p") for f in told}


def test_pages_are_fast():
    start = time.process_time()
    for seed in range(1000):
        page(10_000 + seed)
    assert time.process_time() - start < 4  # 0.5 s on an idle core
