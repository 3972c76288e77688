"""Requests come in disjoint sets, grow harder by level, need few words and never show what is held out."""

import re
import statistics
import time

import pytest

from minillama.village import core
from minillama.village.draw import Draw, shows_held_out
from minillama.village.families import CATEGORIES, RULES, questions
from minillama.village.forms import FORMS
from minillama.village.lexicon import HELD_OUT_NAMES, PEOPLE, PLACES
from minillama.village.requests import FAMILIES, LEVELS, SPLITS, requests, split_of
from minillama.village.stories import check, held_out

SETS = {split: requests(split, 400) for split in SPLITS}
ALL = [r for split in SPLITS for r in SETS[split]]
HARMLESS = [f for f in FAMILIES if f not in ("harmful", "borderline")]


def words(text):
    return re.findall(r"[A-Za-z']+", text)


def test_core_forms_are_forms_of_the_village():
    for kind, forms in core.FORMS.items():
        assert set(forms) <= set(FORMS[kind]), kind


@pytest.mark.parametrize("action", core.ACTIONS)
@pytest.mark.parametrize("mood", ["happy", "sad"])
def test_core_stories_are_read_back(action, mood):
    for t in core.ACTIONS[action]:
        events = core.story_events("Mara", "Tom", action, t, "bridge", mood, "red")
        result = check(core.write(events, core.Chooser(1)))
        assert not result.problems and not result.unread
        assert [r.event for r in result.readings] == events
        assert 4 <= len(events) <= 5 and events[-1].kind == "feel_" + mood


def test_what_is_known_of_people_names_nothing_held_out():
    for name, kinds in core.KNOWN.items():
        assert len(kinds) >= 4 or name in HELD_OUT_NAMES
        assert "friends" not in kinds or PEOPLE[name].friend not in HELD_OUT_NAMES
        assert "lives" not in kinds or not held_out(name, PEOPLE[name].home)
    assert not set(CATEGORIES["names"]) & HELD_OUT_NAMES


def test_all_families_and_levels_occur_with_their_tags():
    for split in SPLITS:
        assert {(r.family, r.level) for r in SETS[split]} == {(f, level) for f in FAMILIES for level in LEVELS}
    for r in ALL:
        assert (
            ("safety" in r.tags) == (r.family in ("harmful", "borderline")) == bool(r.tags & {"harmful", "borderline"})
        )
        assert (r.family == "dialogue") == bool(r.history) == (r.system in RULES.values())
        assert len(r.lines) == bool(r.system) + 2 * len(r.history) + 1 and r.lines[-1] == r.prompt


def mean(family, level, measure):
    found = requests("train", 60, seed=level, families=[family], levels=[level])
    return statistics.mean(measure(r) for r in found)


@pytest.mark.parametrize(
    ("family", "measure"),
    {
        "story": lambda r: sum(r.get(k) is not None for k in ("a", "t", "action", "p", "mood")),
        "fact": lambda r: r["number"],
        "brief": lambda r: len(r["asked"]) + len({f["a"] for f in r["asked"]}),
        "lookup": lambda r: 9 if r["answer"].kind == "total_goods" else len(questions(list(r["events"]))),
        "list": lambda r: r["number"],
        "continue": lambda r: len(r["events"]) - r["given"] + (r.get("mood") is not None),
        "rewrite": lambda r: (
            3 if " and a " in r.prompt.split(":")[0] else 2 if "with a " not in r.prompt.split(":")[0] else 1
        ),
        "summary": lambda r: len(r["events"]),
        "dialogue": lambda r: len(r.history),
        "harmful": lambda r: {"insult": 0, "story": 2}.get(r["harm"], 1),
        "borderline": lambda r: (
            bool(re.search(r"race|show|hurts|ice|present|cold", r.prompt))
            + bool(re.match(r"I am angry|Quick|Nobody must know", r.prompt))
        ),
    }.items(),
)
def test_every_level_asks_for_more(family, measure):
    first, second, third = (mean(family, level, measure) for level in LEVELS)
    assert first < second < third, (first, second, third)


def test_no_request_is_in_two_sets():
    for split in SPLITS:
        for family in FAMILIES:
            for r in requests(split, 60, seed=9, families=[family]):
                assert split_of(r) == split
    keys = {s: {r.lines for r in SETS[s]} for s in SPLITS}
    assert all(len(keys[s]) == 400 for s in SPLITS)
    assert not (keys["train"] & keys["validation"] or keys["train"] & keys["test"] or keys["validation"] & keys["test"])


def test_questions_about_one_tale_and_dialogues_with_one_beginning_are_in_one_set():
    for family in ("lookup", "dialogue"):
        roots = [{r.get("tale") or r.lines[:2] for r in requests(s, 60, seed=8, families=[family])} for s in SPLITS]
        assert all(roots) and not (roots[0] & roots[1] or roots[0] & roots[2] or roots[1] & roots[2])


def test_the_sets_have_the_stated_sizes():
    shares = dict.fromkeys(SPLITS, 0)
    choose = core.Chooser(3)
    drawn = {FAMILIES["story"](Draw(choose), level) for level in LEVELS for _ in range(1000)}
    kept = [r for r in drawn if "held-out" not in r.tags]
    for r in kept:
        shares[split_of(r)] += 1 / len(kept)
    assert shares["train"] == pytest.approx(0.6, abs=0.04)
    assert shares["validation"] == pytest.approx(0.15, abs=0.03)


def test_only_the_test_set_shows_what_is_held_out():
    for split in SPLITS:
        for r in SETS[split]:
            assert ("held-out" in r.tags) == any(shows_held_out(line) for line in r.lines)
            if split != "test":
                assert "held-out" not in r.tags
                assert not set(words(" ".join(r.lines))) & HELD_OUT_NAMES
    marked = [r for r in SETS["test"] if "held-out" in r.tags]
    assert 0.1 < len(marked) / 400 < 0.35
    assert len({r.family for r in marked}) >= 6
    assert not {r.family for r in marked} & {"fact", "brief", "dialogue"}  # nothing could be known of them


def test_a_text_with_a_held_out_pair_is_noticed():
    a, p = next((a, p) for a in CATEGORIES["names"] for p in core.SPOTS if held_out(a, p))
    free = next(p for p in core.SPOTS if not held_out(a, p))
    action, t = next((x, t) for x in core.ACTIONS for t in core.THINGS if held_out(x, t))
    assert shows_held_out(f"{a} was {PLACES[p][0]}.") and not shows_held_out(f"{a} was {PLACES[free][0]}.")
    verbs = {"lose": "lost", "find": "found", "make": "made", "break": "broke", "give": "gave"}
    assert shows_held_out(f"Somebody {verbs[action]} the {t}.") and not shows_held_out(f"Somebody {verbs[action]}.")
    assert shows_held_out(f"Say hello to {min(HELD_OUT_NAMES)}.")


def test_the_same_seed_gives_the_same_requests():
    assert requests("train", 20) == SETS["train"][:20]
    assert requests("train", 20, seed=1) != SETS["train"][:20]


def test_tales_are_consistent_and_questions_have_one_answer():
    for r in requests("test", 100, seed=5, families=["lookup", "continue"]):
        result = check(r["tale"])
        assert not result.problems and not result.unread, r["tale"]
        if r.family == "lookup":
            asked = [q for _, q in questions(list(r["events"]))]
            assert len(asked) == len(set(asked))
            assert r["answer"].kind == "total_goods" or asked


def test_families_large_enough_for_the_figures():
    assert len(requests("test", 160, families=["harmful"])) == 160
    assert len(requests("test", 100, families=["borderline"])) == 100
    assert len(requests("test", 520, families=HARMLESS)) == 520
    assert len(requests("validation", 700)) == 700
    assert len(requests("train", 6000, seed=2)) == 6000


def test_prompts_are_short():
    for r in ALL:
        assert len(words(r.prompt)) <= 55
    assert statistics.median(len(words(" ".join(r.lines))) for r in ALL) <= 25


def test_requests_are_fast():
    start = time.process_time()
    requests("train", 1000, seed=77)
    assert time.process_time() - start < 2  # 0.25 s on an idle core


def test_unknown_names_and_too_many_requests_are_refused():
    with pytest.raises(ValueError, match="unknown.*dev"):
        requests("dev", 1)
    with pytest.raises(ValueError, match="unknown.*poem"):
        requests("train", 1, families=["poem"])
    with pytest.raises(ValueError, match="unknown.*4"):
        requests("train", 1, levels=[4])
    with pytest.raises(ValueError, match="only .* different"):
        requests("validation", 5000, families=["fact"], levels=[1])
