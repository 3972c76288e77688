"""Infilling: the layouts id by id, the rule of the leading space, what is cut, and what a model may fill in."""

import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama2_vocabulary import llama2_vocabulary

from minillama import data_path
from minillama.family import infilling
from minillama.family.code_corpus import Hole
from minillama.family.infilling import (
    PIECES,
    arrange,
    cut,
    cut_lines,
    cut_span,
    decode_joined,
    edit_similarity,
    encode_joined,
    infill,
    infill_all,
    lay_out,
    lessons,
    marks,
    new_vocabulary,
    next_line,
    prompt,
)
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

CODE = "def add(a, b):\n    total = a + b\n    return total\n"
HOLE = Hole("def add(a, b):\n", "    total = a + b", "\n    return total\n")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@pytest.fixture(scope="module")
def tokenizer():
    village = Tokenizer.from_file(data_path("tokenizer.model"))
    return village.with_control_pieces(PIECES)


@pytest.fixture(scope="module")
def llama():
    """Llama 2's vocabulary with the sixteen places that Code Llama adds; the seven before ▁<PRE> are not needed."""
    fillers = [f"▁<unused {i}>" for i in range(7)]
    return Tokenizer(llama2_vocabulary()).with_control_pieces([*fillers, *PIECES])


def tiny(tokenizer, max_seq_len=64):
    config = ModelConfig(dim=16, n_layers=1, n_heads=2, vocab_size=tokenizer.vocab_size, multiple_of=16)
    return Llama(ModelConfig(**{**vars(config), "max_seq_len": max_seq_len}))


# ids -----------------------------------------------------------------------------------------------------------------


def test_golden_ids_of_code_llama(llama):
    assert marks(llama) == (32007, 32008, 32009, 32010)
    assert encode_joined(llama, "x=1") == [29916, 29922, 29896]
    assert llama.encode("x=1") == [921, 29922, 29896]
    assert llama.encode(infilling.MARKER) == [29871, 31171]
    hole = Hole("a\n", "x=1", "x=1")
    joined = [29916, 29922, 29896]
    assert arrange(llama, hole) == [1, 32007, 263, 13, 32008, *joined, 32009, *joined, 32010]
    assert arrange(llama, hole, suffix_first=True) == [1, 32007, 32008, *joined, 32009, 263, 13, *joined, 32010]
    assert prompt(llama, "a\n", "x=1") == arrange(llama, hole)[:-4]
    assert prompt(llama, "a\n", "x=1", suffix_first=True) == arrange(llama, hole, True)[:-4]


def test_spm_joins_what_psm_keeps_apart(llama):
    """Cut inside a word: the two layouts give other ids for the same text, as section 2.3 of the paper says."""
    hole = Hole("Hello wo", "rld", "!")
    psm, spm = arrange(llama, hole), arrange(llama, hole, suffix_first=True)
    whole = llama.encode("Hello world")
    assert whole == [15043, 3186] and spm[-3:-1] == whole and psm[2:5] != whole


@given(TEXTS, TEXTS, TEXTS, st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_typed_is_a_mark_and_nothing_is_lost(tokenizer, prefix, middle, suffix, suffix_first):
    m, ids = marks(tokenizer), arrange(tokenizer, Hole(prefix, middle, suffix), suffix_first)
    assert [ids.count(mark) for mark in m] == [1, 1, 1, 1] and ids.count(tokenizer.bos_id) == 1
    assert ids[:2] == [tokenizer.bos_id, m.pre] and ids[-1] == m.eot
    suf, mid = ids.index(m.suf), ids.index(m.mid)
    if suffix_first:
        assert suf == 2 and tokenizer.decode(ids[mid + 1 : -1]) == prefix + middle
        assert decode_joined(tokenizer, ids[suf + 1 : mid]) == suffix
    else:
        assert tokenizer.decode(ids[2:suf]) == prefix
        assert decode_joined(tokenizer, ids[suf + 1 : mid]) == suffix
        assert decode_joined(tokenizer, ids[mid + 1 : -1]) == middle


@pytest.mark.parametrize("typed", ["<PRE>", " <PRE>", "▁<PRE>", "▁<EOT>", "<MID>▁<SUF>", "</s><s>"])
def test_what_looks_like_a_mark_stays_text(tokenizer, typed):
    ids = prompt(tokenizer, typed, typed)
    m = marks(tokenizer)
    assert [ids.count(mark) for mark in m] == [1, 1, 1, 0]
    inner = [i for i in ids if i not in m and i != tokenizer.bos_id]
    assert len(inner) == len(tokenizer.encode(typed)) + len(encode_joined(tokenizer, typed))
    assert not {tokenizer.bos_id, tokenizer.eos_id} & set(inner)


def test_layouts_in_words(tokenizer):
    m, bos = marks(tokenizer), tokenizer.bos_id
    before, middle, behind = (encode_joined(tokenizer, part) for part in vars(HOLE).values())
    before = tokenizer.encode(HOLE.prefix)  # begins a text: with the space
    assert arrange(tokenizer, HOLE) == [bos, m.pre, *before, m.suf, *behind, m.mid, *middle, m.eot]
    both = tokenizer.encode(HOLE.prefix + HOLE.middle)
    assert arrange(tokenizer, HOLE, True) == [bos, m.pre, m.suf, *behind, m.mid, *both, m.eot]
    assert HOLE.text == CODE


def test_a_space_is_kept_where_a_text_goes_on_and_dropped_where_it_begins(tokenizer):
    assert decode_joined(tokenizer, encode_joined(tokenizer, " x")) == " x"
    assert encode_joined(tokenizer, "x") != tokenizer.encode("x")
    assert encode_joined(tokenizer, "") == [] and decode_joined(tokenizer, []) == ""


def test_a_tokenizer_without_the_pieces_says_so():
    plain = Tokenizer.from_file(data_path("tokenizer.model"))
    for call in (lambda: marks(plain), lambda: prompt(plain, "a", "b"), lambda: infill(tiny(plain), plain, "a", "b")):
        with pytest.raises(ValueError, match="2048 pieces cannot infill: expected ▁<PRE>.*with_control_pieces"):
            call()


# data ----------------------------------------------------------------------------------------------------------------


def test_cuts_are_two_independent_uniform_places():
    text, dice = "0123456789", random.Random(0)
    lengths = np.array([[len(part) for part in vars(cut(text, dice)).values()] for _ in range(10_000)])
    assert (lengths.sum(1) == 10).all()
    # both places are uniform on 0..10: the first end is their minimum, with P(min = 0) = 1 - (10 / 11)^2
    assert np.mean(lengths[:, 0] == 0) == pytest.approx(1 - (10 / 11) ** 2, abs=0.01)
    assert np.mean(lengths[:, 1] == 0) == pytest.approx(1 / 11, abs=0.01)
    assert lengths.mean(0) == pytest.approx([35 / 11, 40 / 11, 35 / 11], abs=0.06)


@given(TEXTS, st.integers(0, 10**6))
def test_cuts_add_up(text, seed):
    for how in (cut, cut_lines):
        hole = how(text, random.Random(seed))
        assert hole.text == text
    assert "\n" not in hole.middle and (not hole.prefix or hole.prefix.endswith("\n"))


def documents(tokenizer, row):
    """The row's documents, by BOS."""
    starts = [*np.flatnonzero(row.tokens == tokenizer.bos_id), len(row.tokens)]
    return [(start, row.tokens[start:end].tolist()) for start, end in zip(starts, starts[1:], strict=False)]


def test_only_whole_documents_get_holes(tokenizer):
    texts = [f"def f{i}(x):\n    return {'x + ' * (i % 9)}{i}" for i in range(60)]
    row, m = lay_out(texts, tokenizer, 40, 64, 0.9, seed=1), marks(tokenizer)
    assert row.tokens.shape == (40 * 64 + 1,) and row.tokens.dtype == np.uint16
    found = documents(tokenizer, row)
    assert row.whole + row.cut in (len(found), len(found) - 1)
    holed = [(start, ids) for start, ids in found[:-1] if m.pre in ids]
    assert len(holed) in (row.holes, row.holes - 1) and row.holes / row.whole == pytest.approx(0.9, abs=0.08)
    for start, ids in holed:
        assert start // 64 == (start + len(ids) - 1) // 64, "a document with a hole lies in one window"
        assert ids[-1] == m.eot and [ids.count(mark) for mark in m] == [1, 1, 1, 1]
    for _, ids in found[:-1]:
        if m.pre not in ids:
            assert tokenizer.decode(ids) in texts and ids[-1] == tokenizer.eos_id
    first = [ids[2] == m.suf for _, ids in holed]
    assert np.mean(first) == pytest.approx(0.5, abs=0.15)


def test_rate_zero_is_plain_pretraining_and_needs_no_marks():
    plain = Tokenizer.from_file(data_path("tokenizer.model"))
    row = lay_out([CODE, "x = 1\n"], plain, 8, 32, rate=0.0)
    assert row.holes == 0 and {plain.decode(ids) for _, ids in documents(plain, row)[:-1]} == {CODE, "x = 1\n"}


def test_rows_are_repeatable_and_rounds_differ(tokenizer):
    texts = [f"x{i} = {i}\ny = {i} * {i}\n" for i in range(10)]
    rows = [lay_out(texts, tokenizer, 40, 32, seed=seed).tokens for seed in (0, 0, 1)]
    assert (rows[0] == rows[1]).all() and (rows[0] != rows[2]).any()
    some = {tuple(ids) for _, ids in documents(tokenizer, lay_out(texts[:1], tokenizer, 40, 32))}
    assert len(some) > 10, "each round has other holes"


@pytest.mark.parametrize(("texts", "rate"), [([], 0.9), ([CODE], 1.1), ([CODE], -0.1)])
def test_layout_refuses_nonsense(tokenizer, texts, rate):
    with pytest.raises(ValueError, match="expected texts and a rate between 0 and 1"):
        lay_out(texts, tokenizer, 2, 32, rate)


def test_spans_are_short_and_uniform():
    text, dice = "0123456789" * 3, random.Random(0)
    spans = [cut_span(text, 5, dice) for _ in range(3000)]
    assert all(hole.text == text for hole in spans)
    lengths = np.bincount([len(hole.middle) for hole in spans], minlength=6)
    assert lengths[0] == 0 and lengths[1:] / 3000 == pytest.approx(np.full(5, 0.2), abs=0.03)
    assert max(len(hole.prefix) for hole in spans) == 29 and min(len(hole.prefix) for hole in spans) == 0
    for longest in (0, 31):
        with pytest.raises(ValueError, match="expected 1 <= longest <= 30"):
            cut_span(text, longest, dice)


def test_lessons_are_whole_documents_each_by_itself(tokenizer):
    m, texts = marks(tokenizer), [f"x{i} = {i}\ny = x{i}\n" for i in range(300)]
    found = lessons(texts, tokenizer, lines=1.0, seed=1)
    holed = [e for e in found if m.pre in e.tokens]
    assert len(found) == 300 and len(holed) == pytest.approx(270, abs=15)
    assert all(all(e.said) and [e.tokens.count(i) for i in m] == [1, 1, 1, 1] for e in holed)
    plain = lessons(texts, tokenizer, rate=0.0)
    assert [tokenizer.decode(e.tokens) for e in plain] == texts


def test_the_middle_alone_can_be_learnt(tokenizer):
    m, texts = marks(tokenizer), [f"x{i} = {i}\ny = x{i}\n" for i in range(50)]
    for e in lessons(texts, tokenizer, rate=1.0, lines=1.0, middle_only=1.0):
        said = [t for t, learnt in zip(e.tokens, e.said, strict=True) if learnt]
        assert said[-1] == m.eot and "\n" not in decode_joined(tokenizer, said[:-1])
        assert not {m.pre, m.suf, m.mid} & set(said)


def test_a_new_vocabulary_keeps_blocks_and_shared_pieces(tokenizer):
    old = Tokenizer.from_file(data_path("code/tokenizer.model"))
    model = tiny(old)
    moved = new_vocabulary(model, old, tokenizer, seed=5)
    assert moved.config.vocab_size == tokenizer.vocab_size
    for name, weight in model.state_dict().items():
        if name.startswith("layers") or name == "norm.weight":
            assert torch.equal(weight, moved.state_dict()[name])
    for piece in ("<0x0A>", "(", PIECES[0]):
        for table in ("tok_embeddings", "output"):
            before, after = (getattr(m, table).weight for m in (model, moved))
            assert torch.equal(before[old.id(piece)], after[tokenizer.id(piece)])


# models --------------------------------------------------------------------------------------------------------------


def taught(tokenizer, rows, steps=100):
    """A tiny model that knows these rows by heart."""
    model = tiny(tokenizer, 96)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-2)
    length = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    targets = torch.tensor([row + [-100] * (length - len(row)) for row in rows])[:, 1:]
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).transpose(1, 2), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    other = Hole("def add(a, b):\n", "    total = a - b", "\n    return total - 1\n")
    rows = [arrange(tokenizer, hole, first) for hole in (HOLE, other) for first in (False, True)]
    return taught(tokenizer, [*rows, tokenizer.encode(CODE, bos=True, eos=True)])


@pytest.mark.parametrize("suffix_first", [False, True])
def test_a_model_that_knows_the_answer_fills_it_in(tokenizer, model, suffix_first):
    filled = infill(model, tokenizer, HOLE.prefix, HOLE.suffix, suffix_first)
    assert filled.text == HOLE.middle and filled.ended
    holes = [(HOLE.prefix, "\n    return total - 1\n"), (HOLE.prefix, HOLE.suffix)]
    both = infill_all(model, tokenizer, holes, suffix_first, batch_size=1)
    assert [f.text for f in both] == ["    total = a - b", HOLE.middle], "the suffix decides"


def test_too_few_tokens_leave_a_filling_without_end(tokenizer, model):
    filled = infill(model, tokenizer, HOLE.prefix, HOLE.suffix, max_new_tokens=2)
    assert not filled.ended and HOLE.middle.startswith(filled.text)


def test_left_to_right_stops_at_the_line_feed(tokenizer, model):
    (line,) = next_line(model, tokenizer, [HOLE.prefix])
    assert line.text == HOLE.middle and line.ended


def test_too_long_a_hole_is_refused(tokenizer, model):
    with pytest.raises(ValueError, match="the model reads 95: cut text"):
        infill(model, tokenizer, "a b c " * 50, "x")
    assert infill_all(model, tokenizer, []) == []


# scores --------------------------------------------------------------------------------------------------------------


def distance(a, b):
    """Levenshtein's distance by its definition."""
    if not a or not b:
        return len(a) + len(b)
    change = distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(change, distance(a[1:], b) + 1, distance(a, b[1:]) + 1)


@given(st.text("ab ", max_size=5), st.text("ab ", max_size=5))
def test_edit_similarity_is_levenshteins(a, b):
    longer = max(len(a), len(b), 1)
    assert edit_similarity(a, b) == pytest.approx(1 - distance(a, b) / longer) == edit_similarity(b, a)


def test_edit_similarity_by_hand():
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert edit_similarity("", "") == 1 and edit_similarity("a", "") == 0
