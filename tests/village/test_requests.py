"""Requests come in disjoint sets, need few words, and their demonstrations are consistent."""

import re

import pytest

from minillama.village import core
from minillama.village.forms import FORMS
from minillama.village.lexicon import HELD_OUT_NAMES
from minillama.village.requests import FAMILIES, QUALITIES, RULES, SPLITS, demonstrate, page, requests, split_of
from minillama.village.stories import check, held_out

SETS = {split: requests(split, 150) for split in SPLITS}
ALL = [r for split in SPLITS for r in SETS[split]]


def words(text):
    return re.findall(r"[A-Za-z']+", text)


def test_core_forms_are_forms_of_the_village():
    for kind, forms in core.FORMS.items():
        assert set(forms) <= set(FORMS[kind]), kind


@pytest.mark.parametrize("action", core.ACTIONS)
@pytest.mark.parametrize("mood", ["happy", "sad"])
def test_core_stories_are_read_back(action, mood):
    for t in core.ACTIONS[action][:4]:
        events = core.story_events("Mara", "Tom", action, t, "bridge", mood, "red")
        result = check(core.write(events, core.Chooser(1)))
        assert not result.problems and not result.unread
        assert [r.event for r in result.readings] == events
        assert 4 <= len(events) <= 5 and events[-1].kind == "feel_" + mood


def test_facts_in_the_present_tense_are_read_back():
    for name in core.NAMES:
        for kind in core.FACTS:
            assert core.understand(core.say(name, kind)).facts == (core.fact(name, kind),)
    said = core.understand("Tom lives at the mill and has a dog. She loves soup. Nonsense.", "Tom")
    assert [f.kind for f in said.facts] == ["lives", "pet"]
    assert len(said.others) == 2  # Tom is no "she"


def test_all_families_and_levels_occur_with_their_tags():
    assert {(r.family, r.level) for r in ALL} == {(f, level) for f in FAMILIES for level in (1, 2, 3)}
    for r in ALL:
        assert (
            ("safety" in r.tags) == (r.family in ("harmful", "borderline")) == bool(r.tags & {"harmful", "borderline"})
        )
        assert (r.family == "dialogue") == bool(r.history) == (r.system in RULES.values())


def test_sets_are_disjoint_and_only_test_has_held_out_people_and_pairs():
    keys = {s: {(r.system, r.history, r.prompt) for r in SETS[s]} for s in SPLITS}
    assert all(len(keys[s]) == 150 for s in SPLITS)
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not keys[one] & keys[other]
    for split in SPLITS:
        for r in SETS[split]:
            assert split_of(r) == split
            if split != "test":
                assert "held-out" not in r.tags and not set(words(r.prompt)) & HELD_OUT_NAMES
                draft = dict(r.get("draft", ()))
                assert not draft or not (held_out(draft["a"], draft["p"]) or held_out(draft["action"], draft["t"]))
    assert sum("held-out" in r.tags for r in SETS["test"]) > 30


def test_the_same_seed_gives_the_same_requests_and_answers():
    assert requests("train", 20) == SETS["train"][:20]
    assert requests("train", 20, seed=1) != SETS["train"][:20]
    for r in ALL[::10]:
        for quality in QUALITIES:
            assert demonstrate(r, 3, quality) == demonstrate(r, 3, quality)
    assert page(5) == page(5) != page(6)


def test_a_core_vocabulary_of_a_few_hundred_words_and_short_answers():
    texts = [r.prompt + " " + demonstrate(r, 0, q) for r in ALL for q in QUALITIES]
    assert 200 < len({w.lower() for t in texts for w in words(t)}) < 450
    lengths = sorted(len(words(r.demonstration)) for r in ALL)
    assert lengths[-1] <= 50 and lengths[len(lengths) // 2] >= 5


def test_good_answers_to_stories_have_no_contradictions():
    for r in ALL:
        if r.family in ("story", "rewrite"):
            for quality in ("plain", "good"):
                result = check(demonstrate(r, 0, quality))
                assert not result.problems and not result.unread, (r.prompt, demonstrate(r, 0, quality))


def test_families_large_enough_for_the_figures():
    assert len(requests("test", 160, families=["harmful"])) == 160
    assert len(requests("test", 100, families=["borderline"])) == 100
    helpful = [f for f in FAMILIES if f not in ("harmful", "borderline")]
    assert len(requests("test", 520, families=helpful)) == 520


def test_unknown_names_and_too_many_requests_are_refused():
    with pytest.raises(ValueError, match="unknown.*dev"):
        requests("dev", 1)
    with pytest.raises(ValueError, match="unknown.*poem"):
        requests("train", 1, families=["poem"])
    with pytest.raises(ValueError, match="only .* different"):
        requests("validation", 5000, families=["brief"])
    with pytest.raises(ValueError, match="quality"):
        demonstrate(ALL[0], 0, "bad")
