"""The corpus: cleaning, duplicates, mixtures, contamination and counts against slow versions and known answers."""

import itertools
import math
import random
import subprocess
import sys

import numpy as np
import pytest

from minillama import data_path
from minillama.pretraining import contamination, corpus, statistics
from minillama.pretraining.corpus import MinHash, jaccard, near_duplicates, shingles
from minillama.village.pages import page
from minillama.village.stories import tell

PAGE = data_path("page.txt").read_text(encoding="utf-8")
PARAGRAPHS = PAGE.strip().split("\n\n")


# Cleaning -----------------------------------------------------------------------------------------------------------


def test_clean_normalises_lines_unicode_and_control_characters():
    assert corpus.clean("a  \r\nb\t\rc\x00\x07\ufeff\n") == "a\nb\nc"
    assert corpus.clean("e\u0301\u00a0x") == "\u00e9 x"
    assert corpus.clean("a\n\n\n\n\n\nb") == "a\n\n\nb"
    assert corpus.clean("    indented\n\tand tabbed") == "    indented\n\tand tabbed"


def test_clean_masks_addresses_and_nothing_like_them():
    assert corpus.clean("write to ann.b+c@mill.example.org now") == "write to <email> now"
    assert corpus.clean("from 192.168.0.17 on") == "from <ip> on"
    assert corpus.clean("call +44 20 7946 0958 or (later)") == "call <phone> or (later)"
    for text in ("12 hens, 3 sacks and 84 cookies", "x @ y", "version 3.11.2", "2023-07-18", "1 2 3 4 5 6 7 8"):
        assert corpus.clean(text) == text


def test_clean_is_idempotent_and_leaves_clean_text_alone():
    assert corpus.clean(PAGE.strip("\n")) == PAGE.strip("\n")
    dirty = "a\r\n\x00 b@c.de \n\n\n\n\n 1.2.3.4\u200b "
    assert corpus.clean(corpus.clean(dirty)) == corpus.clean(dirty)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("too short", "only 2 words"),
        ("", "only 0 words"),
        ("1 2 3 " * 20, "0% letters"),
        ("The same line is here again.\n" * 10, "9 of 10 lines are repeats"),
        ("abcdefghijklmnopqrst " * 30, "20 characters a word"),
        ("SALE AND MORE SALE " * 10, "all capitals"),
    ],
)
def test_problems_names_what_is_wrong(text, reason):
    assert reason in corpus.problems(text)


def test_problems_finds_nothing_in_prose_and_code():
    assert all(corpus.problems(text) == [] for text in PARAGRAPHS)
    code = corpus.standard_library(limit=40)
    assert sum(bool(corpus.problems(corpus.clean(d.text))) for d in code) < 10


# Duplicates ---------------------------------------------------------------------------------------------------------


def test_exact_duplicates_point_to_the_first():
    assert corpus.exact_duplicates(["A b", "c", "a  B\n", "c", "d", "a b"]) == {2: 0, 3: 1, 5: 0}
    assert corpus.exact_duplicates([]) == {}


def test_shingles_and_jaccard_by_hand():
    a, b = shingles("one two three four", n=2), shingles("One, two three five!", n=2)
    assert (len(a), len(b), len(a & b)) == (3, 3, 2) and jaccard(a, b) == 0.5
    assert len(shingles("short", n=5)) == 1 and len(shingles("", n=5)) == 1
    assert jaccard(frozenset(), frozenset()) == 1


def test_shingles_do_not_depend_on_the_process():
    code = "from minillama.pretraining.corpus import shingles; print(sorted(shingles('the old hen sat by the door')))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(sorted(shingles("the old hen sat by the door")))


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_minhash_estimates_jaccard_within_four_standard_errors(overlap):
    dice = random.Random(1)
    items = [dice.getrandbits(32) for _ in range(600)]
    common = round(400 * overlap / (1 + overlap))
    a, b = set(items[:200]), set(items[200 - common : 400 - common])
    exact, k = jaccard(frozenset(a), frozenset(b)), 2048
    hashing = MinHash(k, seed=3)
    agree = float((hashing.signature(frozenset(a)) == hashing.signature(frozenset(b))).mean())
    assert abs(agree - exact) <= 4 * math.sqrt(exact * (1 - exact) / k) + 1e-12


def test_signature_equals_the_plain_loop():
    hashing, items = MinHash(16, seed=5), shingles(PARAGRAPHS[0])
    plain = [
        min((int(a) * x + int(b)) % 4_294_967_311 for x in items) for a, b in zip(hashing.a, hashing.b, strict=True)
    ]
    assert hashing.signature(items).tolist() == plain
    prime = 4_294_967_311
    assert all(prime % d for d in range(2, 65_537))


def edited(text: str, changes: int, dice: random.Random) -> str:
    words = text.split()
    for i in dice.sample(range(len(words)), changes):
        words[i] = "changed"
    return " ".join(words)


def test_near_duplicates_are_those_of_all_pairs():
    dice = random.Random(0)
    texts = PARAGRAPHS + [edited(dice.choice(PARAGRAPHS), changes, dice) for changes in (0, 1, 1, 2, 3, 8, 20)]
    sets = [shingles(text) for text in texts]
    exact = {
        (i, j): jaccard(sets[i], sets[j])
        for i, j in itertools.combinations(range(len(texts)), 2)
        if jaccard(sets[i], sets[j]) >= 0.7
    }
    assert len(exact) >= 4
    assert {(p.earlier, p.later): p.similarity for p in near_duplicates(texts, threshold=0.7)} == exact


def test_wrong_values_are_named():
    with pytest.raises(ValueError, match="threshold .* got 0"):
        near_duplicates(["a"], threshold=0)
    with pytest.raises(ValueError, match="n_hashes must be positive, got 0"):
        MinHash(0)
    with pytest.raises(ValueError, match="empty set"):
        MinHash(4).signature(frozenset())


# Mixture ------------------------------------------------------------------------------------------------------------


def test_mix_keeps_the_shares_and_reads_a_small_source_again():
    sources = {"a": [f"a{i:03} " * 10 for i in range(500)], "b": ["b" * 50, "c" * 50]}
    documents = list(corpus.mix(sources, {"a": 3, "b": 1}, total=20_000, seed=0))
    given = {name: sum(len(d.text) for d in documents if d.source == name) for name in sources}
    assert 20_000 <= sum(given.values()) < 20_100
    assert given["b"] / sum(given.values()) == pytest.approx(0.25, abs=0.005)
    texts = [d.text for d in documents if d.source == "b"]
    assert all({x, y} == set(sources["b"]) for x, y in zip(texts[::2], texts[1::2], strict=False))
    first = [d.text for d in documents if d.source == "a"]
    assert len(set(first)) == len(first) and first != sorted(first)
    assert documents == list(corpus.mix(sources, {"a": 3, "b": 1}, total=20_000, seed=0))
    assert documents != list(corpus.mix(sources, {"a": 3, "b": 1}, total=20_000, seed=1))


def test_mix_refuses_what_it_cannot_mix():
    for sources, weights in [({"a": []}, {"a": 1}), ({}, {"a": 1}), ({"a": ["x"]}, {"a": 0}), ({"a": [""]}, {"a": 1})]:
        with pytest.raises(ValueError, match="'a' needs a weight above 0"):
            next(corpus.mix(sources, weights, total=1, seed=0))


def test_epochs_are_length_times_share_over_size():
    assert corpus.epochs({"a": 100, "b": 50}, {"a": 3, "b": 1}, 200) == {"a": 1.5, "b": 1.0}


def test_standard_library_is_code_in_an_order_of_its_own():
    documents = corpus.standard_library()
    assert 250 < len(documents) < 900 and sum(len(d.text) for d in documents) > 3_000_000
    assert sum("import" in d.text for d in documents) > 0.7 * len(documents)
    assert corpus.standard_library(limit=5) == documents[:5] != corpus.standard_library(limit=5, seed=1)


# Contamination ------------------------------------------------------------------------------------------------------


def plain_marks(sample, training, min_length, budget, seed):
    """Straight from the definition: every start, every end, every training position."""
    marks = np.zeros(len(sample), dtype=bool)
    for document in training:
        for i, j in itertools.product(range(len(sample)), range(len(document))):
            for n in range(min_length, min(len(sample) - i, len(document) - j) + 1):
                same = [sample[i + k] == document[j + k] for k in range(n)]
                if all(same[:seed]) and same[-1] and same.count(False) <= budget:
                    marks[i : i + n] = True
    return marks


@pytest.mark.parametrize("budget", [0, 1, 3])
def test_contaminated_tokens_equal_the_definition(budget):
    dice = random.Random(budget)
    hits = 0
    for _ in range(40):
        training = [[dice.randrange(3) for _ in range(25)] for _ in range(2)]
        sample = training[0][3:18] + [dice.randrange(3) for _ in range(10)]
        for k in dice.sample(range(len(sample)), 3):
            sample[k] = 9
        (marks,) = contamination.contaminated_tokens([sample], training, min_length=5, budget=budget, seed=4)
        assert marks.tolist() == plain_marks(sample, training, 5, budget, 4).tolist()
        hits += marks.any() and not marks.all()
    assert hits > 20


def test_runs_of_ten_do_not_count_and_eleven_do():
    sample = list(range(100, 120))
    ten, eleven = [[*sample[:10], 0]], [[*sample[:11], 0]]
    assert contamination.contaminated_tokens([sample], ten)[0].sum() == 0
    assert contamination.contaminated_tokens([sample], eleven)[0].sum() == 11


def test_a_run_does_not_cross_documents():
    sample = list(range(40))
    assert not contamination.contaminated_tokens([sample], [sample[:9], sample[9:18]])[0].any()
    with pytest.raises(ValueError, match="min_length must be at least seed = 10, got 5"):
        contamination.contaminated_tokens([sample], [sample], min_length=5)


def test_z_is_measured_in_standard_errors_of_all_subsets_of_that_size():
    scores, share = [1, 0, 0, 1, 1, 0, 0], np.array([0.9, 0.1, 0.0, 0.85, 0.5, 0.1, 0.3])
    for subset in contamination.subsets(share, scores):
        means = [np.mean(chosen) for chosen in itertools.combinations(scores, subset.size)]
        assert subset.z == pytest.approx((subset.score - np.mean(scores)) / np.std(means))
    assert [s.size for s in contamination.subsets(share, scores)] == [3, 4, 5, 2]


def test_an_effect_is_seen_and_chance_is_not():
    dice = np.random.default_rng(0)
    share = np.repeat([0.0, 0.5, 1.0], 200)
    helped, plain = dice.random(600) < 0.3 + 0.6 * share, dice.random(600) < 0.5
    assert contamination.shows_an_effect(contamination.subsets(share, helped))
    assert not contamination.shows_an_effect(contamination.subsets(share, plain))
    none = contamination.subsets(np.zeros(5), [0, 1, 0, 1, 1])
    assert math.isnan(none[0].z) and none[3].size == 0 and not contamination.shows_an_effect(none)
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        contamination.subsets(np.zeros(2), [1, 2, 3])


# Statistics ---------------------------------------------------------------------------------------------------------


def test_pronoun_shares_by_hand():
    shares = statistics.pronoun_shares(["He gave HIS hen.", "She saw them.", "The fox.", "You and I. The theatre."])
    assert shares == {
        "gendered": 0.5,
        "he": 0.25,
        "she": 0.25,
        "unspecified": 0.25,
        "first person": 0.25,
        "second person": 0.25,
    }
    assert set(statistics.pronoun_shares([]).values()) == {0}


def test_identity_shares_by_hand():
    share, terms = statistics.identity_shares(["A female fox, a male hen.", "Female.", "Maleness.", "x"])[
        "gender and sex"
    ]
    assert share == 0.5 and (terms["female"], terms["male"], terms["masculine"]) == (1.0, 0.5, 0.0)


def test_language_of_sentences_and_of_code():
    sentences = {
        "en": "The old hen looked at the fox and said that it was cold in the barn.",
        "de": "Die alte Henne sah den Fuchs an und sagte, dass es im Stall kalt ist.",
        "fr": "La vieille poule a regardé le renard et elle a dit que le grenier est froid.",
        "es": "La vieja gallina miró el zorro y dijo que el granero está muy frío por la noche.",
        "pt": "A galinha velha olhou para o lobo e disse que o celeiro não é quente.",
        "it": "La vecchia gallina guardò la volpe e disse che non è il granaio della nonna.",
        "nl": "De oude kip keek naar het dier en zei dat het niet warm was in de schuur.",
        "sv": "Den gamla hönan såg på räven och sade att det var kallt i ladan.",
        "unknown": "def f(x): return [y ** 2 for y in range(x) if y % 3]",
    }
    assert {name: statistics.language(text) for name, text in sentences.items()} == {name: name for name in sentences}
    assert statistics.language_shares([*PARAGRAPHS[:3], sentences["unknown"]]) == {"en": 0.75, "unknown": 0.25}


def test_frequent_words_belong_to_one_language_each():
    for one, other in itertools.combinations(statistics.FREQUENT, 2):
        assert not statistics.FREQUENT[one] & statistics.FREQUENT[other], (one, other)


def test_xz_sees_repetition_and_not_noise():
    dice = random.Random(0)
    noise = ["".join(dice.choice("abcdefgh") for _ in range(20_000))]
    assert statistics.xz_bits_per_character(noise) == pytest.approx(3.0, rel=0.1)
    assert statistics.xz_bits_per_character(PARAGRAPHS * 20) < 0.5 * statistics.xz_bits_per_character(PARAGRAPHS)
    with pytest.raises(ValueError, match="no text"):
        statistics.xz_bits_per_character([])


def test_the_language_reference_is_english_prose():
    documents = corpus.language_reference()
    text = "\n".join(document.text for document in documents)
    assert 300_000 < len(text) < 2_000_000 and {d.source for d in documents} == {"english"}
    assert statistics.language_shares(d.text for d in documents)["en"] > 0.7
    assert documents == corpus.language_reference()


def test_the_village_gives_stories_and_pages_in_turn_and_any_range_of_them():
    documents = list(corpus.village(12))
    assert [d.source for d in documents] == ["stories", "pages"] * 6
    assert list(corpus.village(5, first=4)) == documents[4:9]
    assert documents[4].text == tell(2).text and documents[5].text == page(2)
