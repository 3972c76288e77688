"""The tokenizer: `sentencepiece` is the referee, the true Llama 2 vocabulary comes from an optional package."""

import hashlib
import io
import os
import random
from importlib.resources import files

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from llama2_vocabulary import llama2_vocabulary

from minillama import data_path
from minillama.model import bpe
from minillama.model.bpe import BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED, Piece, Vocabulary
from minillama.model.bpe_encoder import BPEEncoder
from minillama.model.sentencepiece_file import ModelFileError, parse, read_model, serialize, write_model
from minillama.model.tokenizer import Tokenizer, train_bpe

PAGE = data_path("page.txt").read_text(encoding="utf-8")
OTHER_SCRIPTS = (
    "A raposa não viu a galinha; três pães, 12 ovos. Olá, mundo!\n"
    "Лиса увидела курицу. Ёлка. Η αλεπού είδε την κότα.\n狐狸看见了母鸡。キツネがめんどりを見た。ー々\n"
    "    if fox == 'hen':\n        return  12345  # ----====____\n"
    "x̂ y̆ 🦊🐔🦙 שלום עולם नमस्ते दुनिया Ⅻ ﷽ １２３ ａ Å\n"
)
CORPUS = [PAGE, OTHER_SCRIPTS * 3]

# ids of Llama 2's tokenizer, measured on the official file (no normalisation, digits split, bytes for the unknown)
GOLDEN = {
    "": [],
    "Hello world": [15043, 3186],
    " Hello world": [29871, 15043, 3186],
    "12345": [29871, 29896, 29906, 29941, 29946, 29945],
    "In 2023, 27540": [512, 29871, 29906, 29900, 29906, 29941, 29892, 29871, 29906, 29955, 29945, 29946, 29900],
    "a\nb": [263, 13, 29890],
    "\n": [29871, 13],
    "🦙": [29871, 243, 162, 169, 156],
    "  two spaces": [259, 1023, 8162],
    "Olá, mundo!": [7137, 29976, 29892, 13864, 29991],
    "The quick brown fox jumps over the lazy dog.":
        [450, 4996, 17354, 1701, 29916, 432, 17204, 975, 278, 17366, 11203, 29889],
    "[INST]": [518, 25580, 29962],
    "[/INST]": [518, 29914, 25580, 29962],
    "<<SYS>>\n": [3532, 14816, 29903, 6778, 13],
    "\n<</SYS>>\n\n": [29871, 13, 29966, 829, 14816, 29903, 6778, 13, 13],
    "ａ Å": [29871, 242, 192, 132, 11260],
    "<s>": [529, 29879, 29958],
    "<s>[INST]": [529, 29879, 24566, 25580, 29962],
    "☺x=1": [29871, 31171, 29916, 29922, 29896],
    "x=1": [921, 29922, 29896],
}  # fmt: skip


@pytest.fixture(scope="module")
def llama2() -> Vocabulary:
    return llama2_vocabulary()


@pytest.fixture(scope="module")
def trained() -> Vocabulary:
    return train_bpe(CORPUS, 600)


def referee(data: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=data)


def sentencepiece_trains(texts: list[str], vocab_size: int, **options) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in texts for line in text.split("\n")]), model_writer=model,
        vocab_size=vocab_size, num_threads=1, max_sentence_length=10**6, minloglevel=2,
        **{"model_type": "bpe", "character_coverage": 1.0, "split_digits": True, "byte_fallback": True,
           "allow_whitespace_only_pieces": True, "normalization_rule_name": "identity",
           "remove_extra_whitespaces": False} | options,
    )  # fmt: skip
    return model.getvalue()


# --- strings that break tokenizers ---
AWKWARD = [
    "", " ", "  ", " " * 40, "\n", "\t", "\r\n", "\x00", "a\x00b", "\x01\x7f\x85\u2028", "<s>", "</s>", "<unk>",
    "<s></s><s>", "<0x41>", "[INST] hi [/INST]", "<<SYS>>\nx\n<</SYS>>\n\n", "\u2581", "a\u2581b", "\u0301", "e\u0301",
    "\u200d", "👩\u200d👩\u200d👧", "🦙" * 9, "ﬁ Å ａ", "İi̇", "\ufeffx", "\ufffd", "\uffff", "\U0010ffff", "a" * 17,
    "-" * 10, "=" * 33, "1234567890" * 4, "１２３", "٣٤", "x" * 200, " x" * 50, "שלום", "नमस्ते", "สวัสดี",
    "漢字かなカナ", "the fox  saw   the    hen ", " the", "the ", "▁<PRE>", "\u0600\u0601", "ß ẞ",
    "e\u0301\u0302\u0303\u0304",
]  # fmt: skip
TAGS = [
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<unk>",
    "<0x0A>",
    " ",
    "  ",
    "\n",
    "\t",
    "▁",
    "fox",
    "hen",
    "1",
    "é",
]


def stress_strings(count: int) -> list[str]:
    """`count` strings, always the same: five kinds of mixture, from words of the page to any code point at all."""
    chance = random.Random(2)
    words = PAGE.split()
    blocks = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF),
              (0x2000, 0x2BFF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF),
              (0, 0x1F)]  # fmt: skip

    def character(low: int, high: int) -> str:
        code = chance.randint(low, high)
        return chr(code) if not 0xD800 <= code <= 0xDFFF else "?"

    def one(kind: int) -> str:
        length = chance.randint(0, 30)
        if kind == 0:
            return (" " * chance.randint(1, 3)).join(chance.choice(words) for _ in range(length))
        if kind == 1:
            block = chance.choice(blocks)
            return "".join(character(*block) for _ in range(length))
        if kind == 2:
            return "".join(character(*chance.choice(blocks)) for _ in range(length))
        if kind == 3:
            return "".join(chance.choice([*TAGS, chance.choice(words)]) for _ in range(length))
        return "".join(character(0, 0x10FFFF) for _ in range(length))

    return AWKWARD + [one(i % 5) for i in range(count - len(AWKWARD))]


def assert_same_ids(vocabulary: Vocabulary, texts: list[str]) -> None:
    encoder, cold, theirs = (
        BPEEncoder(vocabulary), BPEEncoder(vocabulary, use_cache=False), referee(serialize(vocabulary))
    )  # fmt: skip
    forbidden = {i for i, piece in enumerate(vocabulary.pieces) if piece.kind == CONTROL}
    for text in texts:
        expected = theirs.encode(text)
        assert encoder.encode(text) == expected, ascii(text)
        assert cold.encode(text) == expected, ascii(text)
        assert not forbidden & set(expected), ascii(text)


def test_ids_equal_sentencepiece_for_a_model_trained_here(trained):
    texts = stress_strings(2500)
    assert len(set(texts)) > 2000
    assert_same_ids(trained, texts)


def test_ids_equal_sentencepiece_for_llama2(llama2):
    assert_same_ids(llama2, stress_strings(2500))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(TAGS), st.text(max_size=8)), max_size=8).map("".join))
def test_ids_and_round_trip_on_generated_strings(text):
    tokenizer, encoder = generated_pair()
    ids = tokenizer.encode(text)
    assert encoder.encode(text) == ids
    assert tokenizer.decode(ids) == text.replace(SPACE, " ")
    assert tokenizer.decode(tokenizer.encode(text, bos=True, eos=True)) == text.replace(SPACE, " ")


def generated_pair(made: list = []) -> tuple[Tokenizer, BPEEncoder]:  # noqa: B006 - made once
    if not made:
        vocabulary = train_bpe(CORPUS, 600)
        made.append((Tokenizer(vocabulary), BPEEncoder(vocabulary)))
    return made[0]


@pytest.mark.parametrize("text", GOLDEN)
def test_golden_vectors_of_llama2(llama2, text):
    tokenizer = llama2_tokenizer(llama2)
    assert tokenizer.encode(text) == GOLDEN[text]
    assert BPEEncoder(llama2).encode(text) == GOLDEN[text]
    assert tokenizer.decode(GOLDEN[text]) == text


def llama2_tokenizer(vocabulary: Vocabulary, made: list = []) -> Tokenizer:  # noqa: B006 - made once
    if not made:
        made.append(Tokenizer(vocabulary))
    return made[0]


def test_llama2_file_is_rebuilt_byte_for_byte(llama2):
    data = serialize(llama2)
    assert len(data) == 499_723
    assert hashlib.sha256(data).hexdigest() == "9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347"
    assert serialize(parse(data)) == data


def test_llama2_facts(llama2):
    pieces = llama2.pieces
    assert len(pieces) == 32_000
    spaces = [i for i, piece in enumerate(pieces) if set(piece.text) == {SPACE}]
    assert spaces == [259, 268, 308, 418, 462, 539, 632, 795, 965, 1669, 1678, 3986, 4706, 9651, 18884, 29871]
    assert pieces[260] == ("▁t", -1.0, NORMAL) and pieces[31_999].score == -31_740.0
    with_digit = [piece.text for piece in pieces if piece.kind == NORMAL and any(c in "0123456789" for c in piece.text)]
    assert sorted(with_digit) == list("0123456789")
    assert pieces[13].text == "<0x0A>" and pieces[12].text == "<0x09>"


# --- training ---
@pytest.mark.parametrize("corpus", [[PAGE], CORPUS], ids=["English", "many scripts"])
@pytest.mark.parametrize("coverage", [1.0, 0.99])
def test_training_learns_the_pieces_of_sentencepiece_in_the_same_order(corpus, coverage):
    theirs = referee(sentencepiece_trains(corpus, 700, character_coverage=coverage))
    ours = [piece.text for piece in train_bpe(corpus, 700, coverage).pieces]
    assert ours == [theirs.id_to_piece(i) for i in range(700)]


def test_training_is_deterministic():
    assert serialize(train_bpe(CORPUS, 600)) == serialize(train_bpe(iter(CORPUS), 600))


def test_layout_and_scores(trained):
    kinds = [piece.kind for piece in trained.pieces]
    assert kinds[:3] == [UNKNOWN, CONTROL, CONTROL] and set(kinds[3:259]) == {BYTE} and set(kinds[259:]) == {NORMAL}
    assert [piece.score for piece in trained.pieces[259:]] == [-float(rank) for rank in range(341)]
    assert len({piece.text for piece in trained.pieces}) == 600


def test_pieces_obey_the_rules(trained):
    for text in [piece.text for piece in trained.pieces if piece.kind == NORMAL and len(piece.text) > 1]:
        bare = text.lstrip(SPACE)
        assert len(text) <= 16 and not set(text) & bpe.DIGITS and not any(c < " " for c in text)
        assert SPACE not in bare and (not bare or len(text) - len(bare) <= 1)
        assert len({bpe.script(c) for c in bare} - {""}) <= 1


def test_a_merge_skips_a_text_that_was_learned_another_way():
    pieces = bpe.learn_merges({"abc": 3, "ab": 4, "bcbc": 2, "xbc": 5, "aabc": 1}, 99)
    assert len(pieces) == len(set(pieces)) and "abc" in pieces


def test_runs_of_one_character():
    assert bpe.learn_merges({"a" * 9: 1}, 4) == ["aa", "aaaa", "aaaaa", "aaaaaaaaa"]


def test_training_rejects_impossible_requests():
    with pytest.raises(ValueError, match="vocab_size=100 has no room.*at least"):
        train_bpe([PAGE], 100)
    with pytest.raises(ValueError, match="supports at most"):
        train_bpe(["the fox"], 500)
    for empty in ([], "", ["\n\n"], ["", ""]):
        with pytest.raises(ValueError, match="no text"):
            train_bpe(empty, 500)


def test_split_digits_can_be_turned_off():
    corpus = [PAGE + " in 2023 and 2024" * 50]
    joined = [piece.text for piece in train_bpe(corpus, 450, split_digits=False).pieces]
    theirs = referee(sentencepiece_trains(corpus, 450, split_digits=False))
    assert joined == [theirs.id_to_piece(i) for i in range(450)] and "▁202" in joined
    assert "▁202" not in [piece.text for piece in train_bpe(corpus, 450).pieces]


# --- other vocabularies ---
@pytest.mark.parametrize(
    "options",
    [
        {"byte_fallback": False, "vocab_size": 300},
        {"byte_fallback": False, "vocab_size": 300, "user_defined_symbols": ["<sep>", "<sepa>", "fox", "é", "z"]},
        {"user_defined_symbols": ["<mask>", "the"], "control_symbols": ["<ctl>"]},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": True},
        {"split_by_whitespace": False, "max_sentencepiece_length": 32},
        {"split_digits": False, "split_by_unicode_script": False},
    ],
    ids=str,
)
def test_ids_for_models_trained_by_sentencepiece_with_other_options(options):
    data = sentencepiece_trains(CORPUS, **{"vocab_size": 600} | options)
    vocabulary, theirs = parse(data), referee(data)
    encoder, again = BPEEncoder(vocabulary), referee(serialize(vocabulary))
    for text in [*stress_strings(600), "<sepa><sep>the<mask>fox<ctl>éz", "éz fox"]:
        assert encoder.encode(text) == theirs.encode(text) == again.encode(text), ascii(text)


def test_unused_pieces_come_apart_again(trained):
    used = set(referee(serialize(trained)).encode(PAGE))
    pieces = [
        piece._replace(kind=UNUSED)
        if piece.kind == NORMAL and i in used and i % 3 == 0 and len(piece.text) > 1
        else piece
        for i, piece in enumerate(trained.pieces)
    ]
    assert sum(piece.kind == UNUSED for piece in pieces) > 20
    assert_same_ids(Vocabulary(pieces), stress_strings(600))


# --- control tokens ---
def test_text_never_makes_control_tokens(trained):
    names = ["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"]
    tokenizer = Tokenizer(trained).with_control_pieces(names)
    assert tokenizer.vocab_size == 604 and [tokenizer.id(name) for name in names] == [600, 601, 602, 603]
    control = {tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, 600, 601, 602, 603}
    encoder, without = BPEEncoder(tokenizer.vocabulary), Tokenizer(trained)
    for text in [" ".join(names), "".join(names), "<PRE>", "<s></s><unk>", "x</s>", *stress_strings(300)]:
        ids = tokenizer.encode(text)
        assert not control & set(ids)
        assert encoder.encode(text) == ids == without.encode(text)
    assert tokenizer.decode([600, *tokenizer.encode("fox"), 603]) == "fox"
    for bad in (["<s>"], ["x"], [""], ["<new>", "<new>"], ["▁<PRE>"]):
        with pytest.raises(ValueError, match="control piece"):
            tokenizer.with_control_pieces(bad)


def test_bos_and_eos_are_added_by_code_only(trained):
    tokenizer = Tokenizer(trained)
    plain = tokenizer.encode("the fox")
    assert tokenizer.encode("the fox", bos=True, eos=True) == [1, *plain, 2]
    assert tokenizer.encode("") == [] and tokenizer.encode("", bos=True) == [1]
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2, -1)


def test_fast_tokenizers_take_typed_tags_for_control_tokens(llama2):
    """The trap that the chapter shows: the same vocabulary in `tokenizers` reads a typed <s> as BOS."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the optional package tokenizers (extra `parity`)")
    source = files("wordllama") / "tokenizers" / "l2_supercat_tokenizer_config.json"
    fast = tokenizers.Tokenizer.from_str(source.read_text(encoding="utf-8"))
    assert 1 in fast.encode("<s>", add_special_tokens=False).ids
    assert 1 not in llama2_tokenizer(llama2).encode("<s>")


# --- the Tokenizer ---
def test_round_trip_and_partial_bytes(trained):
    tokenizer = Tokenizer(trained)
    for text in stress_strings(1000):
        assert tokenizer.decode(tokenizer.encode(text)) == text.replace(SPACE, " "), ascii(text)
    mammoth = tokenizer.encode("\U0001f9a3")  # "▁" and four bytes; three of the four are no character yet
    assert len(mammoth) == 5 and set(tokenizer.decode(mammoth[:-1])) == {"\ufffd"}


def test_train_saves_a_file_that_sentencepiece_loads(tmp_path):
    path = tmp_path / "village.model"
    tokenizer = Tokenizer.train(CORPUS, 610, path, control_pieces=["▁<PRE>", "▁<SUF>"])
    assert tokenizer.vocab_size == 610 and os.listdir(tmp_path) == ["village.model"]
    first = path.read_bytes()
    Tokenizer.train(CORPUS, 610, path, control_pieces=["▁<PRE>", "▁<SUF>"])
    assert path.read_bytes() == first
    theirs, loaded = sentencepiece.SentencePieceProcessor(model_file=str(path)), Tokenizer.from_file(path)
    assert theirs.get_piece_size() == 610 and theirs.is_control(609) and loaded.vocabulary == tokenizer.vocabulary
    assert theirs.encode("the fox") == loaded.encode("the fox") == tokenizer.encode("the fox")
    assert [loaded.piece(i) for i in range(610)] == [theirs.id_to_piece(i) for i in range(610)]
    assert all(loaded.id(loaded.piece(i)) == i for i in range(610))


def test_a_failed_save_leaves_the_old_file(tmp_path, trained, monkeypatch):
    path = tmp_path / "t.model"
    write_model(path, trained)
    before = path.read_bytes()

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_model(path, train_bpe(CORPUS, 500))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["t.model"]


@pytest.mark.parametrize("text", ["\ud800", "ab\udfffc"])
def test_half_a_surrogate_pair_is_refused(trained, text):
    for encode in (Tokenizer(trained).encode, BPEEncoder(trained).encode):
        with pytest.raises(ValueError, match="position . holds '.ud"):
            encode(text)


@pytest.mark.parametrize("value", [None, 5, b"bytes", ["a"]], ids=repr)
def test_only_strings_are_encoded(trained, value):
    for encode in (Tokenizer(trained).encode, BPEEncoder(trained).encode):
        with pytest.raises(TypeError, match="expected one string, got"):
            encode(value)


@pytest.mark.parametrize("bad", [-1, -2, 600, 10**6])
def test_ids_outside_the_vocabulary_are_named(trained, bad):
    tokenizer = Tokenizer(trained)
    for call in (lambda: tokenizer.decode([300, bad]), lambda: tokenizer.piece(bad)):
        with pytest.raises(ValueError, match=rf"token id {bad} is outside 0..599"):
            call()
    with pytest.raises(KeyError, match="no piece 'nowhere'"):
        tokenizer.id("nowhere")


# --- bad files ---
def test_bad_files_are_refused_with_a_reason(tmp_path, trained):
    good = serialize(trained)
    unigram = sentencepiece_trains([PAGE], 300, model_type="unigram", byte_fallback=False, hard_vocab_limit=False)
    normalising = sentencepiece_trains([PAGE], 400, normalization_rule_name="nmt_nfkc")
    cases = {
        b"": "one unknown piece, found 0",
        b"this is no model file at all": "not a SentencePiece",
        b'{"model": {"type": "BPE"}}': "not a SentencePiece",
        bytes(range(256)): "not a SentencePiece",
        good[: len(good) // 2]: "not a SentencePiece",
        good[:-3]: "not a SentencePiece",
        unigram: "unigram model",
        normalising: "normalises text",
        good + serialize(trained): "found 2",
    }
    path = tmp_path / "bad.model"
    for data, reason in cases.items():
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match=reason):
            Tokenizer.from_file(path)
        with pytest.raises(ModelFileError, match="bad.model"):
            read_model(path)
    with pytest.raises(FileNotFoundError):
        Tokenizer.from_file(tmp_path / "absent.model")


def test_every_cut_of_a_file_is_noticed(trained):
    """A file that is cut anywhere is refused: the settings that say "BPE" stand after the pieces."""
    data = serialize(trained)
    for length in [*range(0, len(data), 97), *range(len(data) - 150, len(data))]:
        with pytest.raises(ModelFileError):
            parse(data[:length])


def test_vocabularies_that_cannot_be(trained):
    pieces = list(trained.pieces)
    for wrong, reason in [
        (pieces + [pieces[300]], "occur twice"),
        (pieces[:200] + pieces[201:], "255 byte pieces"),
        (pieces + [Piece("", -9.0)], "empty piece"),
        (pieces + [Piece("new", -9.0, 17)], "type outside"),
    ]:
        with pytest.raises(ModelFileError, match=reason):
            parse(serialize(Vocabulary(wrong)))
    with pytest.raises(ValueError, match="unknown trainer settings"):
        serialize(Vocabulary(pieces, trainer={"colour": 1}))


def test_long_text_without_spaces_is_not_quadratic(trained):
    """Joining by a heap: twice the text, about twice the work, counted in heap operations."""
    import minillama.model.bpe_encoder as module

    counts = []
    original = module.heapq.heappush
    for length in (4000, 8000):
        calls = 0

        def counted(*args):
            nonlocal calls
            calls += 1
            return original(*args)

        module.heapq.heappush = counted
        try:
            BPEEncoder(trained, use_cache=False).encode("thefox" * (length // 6))
        finally:
            module.heapq.heappush = original
        counts.append(calls)
    assert 0 < counts[1] <= 2.1 * counts[0]


def test_user_defined_pieces_are_never_merged():
    vocabulary = parse(sentencepiece_trains(CORPUS, 600, user_defined_symbols=["fox"]))
    assert vocabulary.pieces[3] == ("fox", 0.0, USER_DEFINED)
    assert 3 in BPEEncoder(vocabulary).encode("the fox")
