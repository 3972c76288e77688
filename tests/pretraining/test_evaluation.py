"""Evaluation: every number against loops, a brute force, a published value or a simulation."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from minillama import data_path
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.evaluation import (
    bits_per_byte,
    loss_per_token,
    multiple_choice,
    perplexity,
    token_losses,
)
from minillama.pretraining.memorisation import CopiedRun, longest_copied_run
from minillama.pretraining.ngram import NGram
from minillama.pretraining.uncertainty import (
    bootstrap_interval,
    expected_calibration_error,
    reliability,
    two_way_interval,
    wilson_interval,
)

TEXT = data_path("page.txt").read_text(encoding="utf-8")
CONFIG = ModelConfig(dim=16, n_layers=2, n_heads=2, vocab_size=400, multiple_of=8, max_seq_len=12)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT], 400)


@pytest.fixture(scope="module")
def model() -> Llama:
    model = Llama(CONFIG, seed=1).double()
    with torch.no_grad():
        model.output.weight.mul_(20)  # so that it has opinions
    return model


class Bigram:
    """In place of a `Llama`: the next token depends on the present one alone, by a table of logits."""

    def __init__(self, vocab_size: int, max_seq_len: int = 64):
        self.config = SimpleNamespace(max_seq_len=max_seq_len)
        self.table = torch.randn(vocab_size, vocab_size, generator=torch.Generator().manual_seed(3)).double()
        self.tok_embeddings = SimpleNamespace(weight=self.table)

    def __call__(self, tokens):
        return self.table[tokens]

    def logprob(self, ids: list[int]) -> float:
        total = 0.0
        for now, following in zip(ids, ids[1:], strict=False):
            row = self.table[now].tolist()
            total += row[following] - math.log(sum(math.exp(x) for x in row))
        return total


# --- loss, perplexity, bits per byte --------------------------------------------------------------------------------


def one_loss(model: Llama, seen: torch.Tensor, target: int) -> float:
    """-ln p from one forward pass over what is seen, with the softmax written out."""
    scores = [math.exp(x) for x in model(seen[None])[0, -1].tolist()]
    return -math.log(scores[target] / sum(scores))


@pytest.mark.parametrize("length", [2, 6, 12, 13, 14, 24, 25, 26, 40])
@pytest.mark.parametrize(("context", "overlap"), [(None, 0), (None, 11), (5, 0), (5, 2), (8, 5), (1, 0)])
def test_every_target_is_scored_once_with_the_context_that_is_promised(model, length, context, overlap):
    row = torch.randint(400, (length,), generator=torch.Generator().manual_seed(length))
    losses = token_losses(model, row, context, overlap, batch_size=2)
    width = context or 12
    expected, start = [], 0
    for t in range(1, length):
        if t - start > width:  # the window is full: the next one keeps `overlap` inputs
            start += width - overlap
        expected.append(one_loss(model, row[start:t], int(row[t])))
    assert losses.dtype == torch.float64
    np.testing.assert_allclose(losses, expected, rtol=1e-9)


def test_loss_and_perplexity_are_means_over_all_targets(model):
    rows = torch.randint(400, (3, 10), generator=torch.Generator().manual_seed(0))
    every = [one_loss(model, row[:t], int(row[t])) for row in rows for t in range(1, 10)]
    assert loss_per_token(model, rows) == pytest.approx(sum(every) / 27, rel=1e-9)
    assert loss_per_token(model, rows.numpy()) == loss_per_token(model, rows)
    assert loss_per_token(model, rows[0].tolist()) == pytest.approx(sum(every[:9]) / 9, rel=1e-9)
    assert perplexity(model, rows[0]) == pytest.approx(math.prod(math.exp(x) for x in every[:9]) ** (1 / 9), rel=1e-9)


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(tokenizer):
    model = Llama(CONFIG)
    with torch.no_grad():
        model.output.weight.zero_()
    row = tokenizer.encode(TEXT[:500], bos=True)
    assert perplexity(model, row) == pytest.approx(400, rel=1e-5)
    text = "The hen saw the fox. Füchse!"
    count, size = len(tokenizer.encode(text)), len(text.encode())
    assert size == len(text) + 1
    assert bits_per_byte(model, tokenizer, [text]) == pytest.approx(count * math.log2(400) / size, rel=1e-5)
    with_end = (count + 1) * math.log2(400) / size
    assert bits_per_byte(model, tokenizer, [text], eos=True) == pytest.approx(with_end, rel=1e-5)


def test_bits_per_byte_weighs_bytes_and_not_documents(model, tokenizer):
    texts = ["The hen.", "The old miller found a loaf of bread near the river.", ""]
    nats = size = 0
    for text in texts[:2]:
        row = torch.tensor(tokenizer.encode(text, bos=True))
        for t in range(1, len(row)):
            nats += one_loss(model, row[max(0, t - 12) : t], int(row[t]))
        size += len(text.encode())
    measured = bits_per_byte(model, tokenizer, iter(texts), overlap=11)
    assert measured == pytest.approx(nats / math.log(2) / size, rel=1e-9)


def test_bits_per_byte_does_not_change_when_tokens_are_split_for_free(tokenizer):
    """Two tokenizers, one language: letters, and whole lines of 16 equally likely letters as one token each."""
    alphabet = "abcdefgh"
    lines = ["".join(alphabet[d] for d in divmod(i, 8)) for i in range(64)]
    coarse = NGram(1, 65, discount=1e-9).train([[64, *range(64)]])
    fine = NGram(1, 9, discount=1e-9).train([[8, *range(8)]])
    as_pairs = SimpleNamespace(encode=lambda t, bos, eos: [64, *(lines.index(t[i : i + 2]) for i in (0, 2, 4))])
    as_letters = SimpleNamespace(encode=lambda t, bos, eos: [8, *map(alphabet.index, t)])
    assert bits_per_byte(coarse, as_pairs, ["abhgcc"]) == pytest.approx(3, rel=1e-6)
    assert bits_per_byte(fine, as_letters, ["abhgcc"]) == pytest.approx(3, rel=1e-6)
    assert perplexity(coarse, [64, 1, 2]) == pytest.approx(64) and perplexity(fine, [8, 1, 2]) == pytest.approx(8)


def test_an_ngram_is_measured_by_the_same_functions(tokenizer):
    rows = [tokenizer.encode(line, bos=True) for line in TEXT.split("\n") if line]
    ngram = NGram(3, 400).train(rows)
    assert loss_per_token(ngram, rows[0]) == pytest.approx(ngram.bits(rows[0]).mean() * math.log(2))
    line = TEXT.split("\n")[0]
    assert bits_per_byte(ngram, tokenizer, [line]) == pytest.approx(ngram.bits(rows[0]).sum() / len(line.encode()))


def test_rows_that_cannot_be_scored_are_refused(model, tokenizer):
    for row in ([1], [], [[1, 2], [3, 4]]):
        with pytest.raises(ValueError, match="at least two tokens"):
            token_losses(model, row)
    for context, overlap in [(13, 0), (0, 0), (5, 5), (5, -1)]:
        with pytest.raises(ValueError, match=f"got context {context}, overlap {overlap}"):
            token_losses(model, [1, 2, 3], context, overlap)
    with pytest.raises(ValueError, match="no text"):
        bits_per_byte(model, tokenizer, [""])


# --- multiple choice ------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_table_in_all_normalisations(tokenizer):
    rigged, question, options = Bigram(400), "Who ate the bread?", [" the fox", " the very old hen", " it"]
    start = tokenizer.encode(question, bos=True)
    ids = [tokenizer.encode(question + option, bos=True) for option in options]
    assert all(row[: len(start)] == start for row in ids)
    sums = [rigged.logprob(row) - rigged.logprob(start) for row in ids]
    neutral = tokenizer.encode("Answer:", bos=True)
    without = [rigged.logprob(tokenizer.encode("Answer:" + o, bos=True)) - rigged.logprob(neutral) for o in options]
    expected = {
        "none": sums,
        "tokens": [s / (len(row) - len(start)) for s, row in zip(sums, ids, strict=True)],
        "bytes": [s / len(option) for s, option in zip(sums, options, strict=True)],
        "unconditional": [s - w for s, w in zip(sums, without, strict=True)],
    }
    for normalise, scores in expected.items():
        choice = multiple_choice(rigged, tokenizer, question, options, normalise)
        np.testing.assert_allclose(choice.scores, scores, rtol=1e-9)
        assert choice.best == int(np.argmax(scores))
        softmax = [math.exp(s) / sum(map(math.exp, scores)) for s in scores]
        np.testing.assert_allclose(choice.probabilities, softmax, rtol=1e-9)


def test_the_normalisation_decides_between_short_and_long(tokenizer):
    """A model for which every token costs the same prefers the short option, and per token it prefers none."""
    flat = Bigram(400)
    flat.table.zero_()
    options = [" the very old hen of the miller", " hen"]
    assert multiple_choice(flat, tokenizer, "Who?", options).best == 1
    per_token = multiple_choice(flat, tokenizer, "Who?", options, "tokens").scores
    np.testing.assert_allclose(per_token, [-math.log(400)] * 2, rtol=1e-9)
    np.testing.assert_allclose(
        multiple_choice(flat, tokenizer, "Who?", options, "unconditional").scores, [0, 0], atol=1e-9
    )


def test_a_merge_across_the_boundary_is_scored_for_all_options(tokenizer):
    """With "the bak" + "er" the word is cut otherwise: all options are then compared from where the encodings part."""
    rigged, question, options = Bigram(400), "He saw the bak", ["er", "ing of bread"]
    ids = [tokenizer.encode(question + option, bos=True) for option in options]
    alone = tokenizer.encode(question, bos=True)
    assert any(row[: len(alone)] != alone for row in ids)
    scores = multiple_choice(rigged, tokenizer, question, options).scores
    assert scores[0] - scores[1] == pytest.approx(rigged.logprob(ids[0]) - rigged.logprob(ids[1]), rel=1e-9)


def test_a_real_model_that_has_counted_the_answer_chooses_it(tokenizer):
    rows = [tokenizer.encode("Who ate the bread? the fox", bos=True, eos=True)] * 3
    ngram = NGram(4, 400).train(rows)
    for normalise in ("none", "tokens", "bytes", "unconditional"):
        assert multiple_choice(ngram, tokenizer, "Who ate the bread?", [" the hen", " the fox"], normalise).best == 1


def test_questions_that_cannot_be_scored_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="none, tokens, bytes, unconditional, got 'length'"):
        multiple_choice(model, tokenizer, "Who?", [" a", " b"], "length")
    for options in ([" a"], [" a", ""]):
        with pytest.raises(ValueError, match="at least two options"):
            multiple_choice(model, tokenizer, "Who?", options)
    with pytest.raises(ValueError, match="the model reads 12: use fewer examples"):
        multiple_choice(model, tokenizer, "Who? " * 10, [" a", " b"])


# --- calibration and intervals --------------------------------------------------------------------------------------


def test_calibration_error_by_hand():
    confidences, correct = [0.95, 0.9, 0.85, 0.2, 0.15, 0.0], [1, 1, 0, 0, 1, 0]
    # bins (0.9, 1]: 0.95; (0.8, 0.9]: 0.9 and 0.85; (0.1, 0.2]: 0.2 and 0.15; (0, 0.1]: 0.0
    by_hand = (1 * 0.05 + 2 * abs(0.875 - 0.5) + 2 * abs(0.175 - 0.5) + 1 * 0) / 6
    assert expected_calibration_error(confidences, correct) == pytest.approx(by_hand)
    assert [b.count for b in reliability(confidences, correct)] == [1, 2, 2, 1]
    assert expected_calibration_error(confidences, correct, bins=1) == pytest.approx(abs(3.05 / 6 - 0.5))
    assert expected_calibration_error([1.0, 1.0], [True, True]) == 0
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1


def test_calibration_tells_honest_from_boastful():
    random = np.random.default_rng(0)
    truth = random.uniform(0.5, 1, 20_000)
    correct = random.uniform(size=20_000) < truth
    assert expected_calibration_error(truth, correct) < 0.02
    assert expected_calibration_error(np.sqrt(truth), correct) > 0.08


def test_calibration_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="between 0 and 1, got 1.2"):
        expected_calibration_error([0.3, 1.2], [1, 0])
    for pair in (([0.3], [1, 0]), ([], [])):
        with pytest.raises(ValueError, match="at least one"):
            expected_calibration_error(*pair)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [  # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_the_published_values(successes, total, low, high):
    assert wilson_interval(successes, total) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(total - successes, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_bounds_are_the_shares_that_the_test_just_accepts():
    for bound in wilson_interval(7, 40, 0.9):
        assert abs(7 / 40 - bound) / math.sqrt(bound * (1 - bound) / 40) == pytest.approx(1.6448536, rel=1e-6)


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    wilson = [wilson_interval(int(random.binomial(30, 0.9)), 30) for _ in range(2000)]
    assert 0.93 < np.mean([low <= 0.9 <= high for low, high in wilson]) < 0.98
    skewed = [bootstrap_interval(random.exponential(2, 80), resamples=150, seed=i) for i in range(150)]
    assert 0.87 < np.mean([low <= 2 <= high for low, high in skewed]) < 0.99
    narrower = [bootstrap_interval(random.exponential(2, 80), confidence=0.5, resamples=150) for _ in range(150)]
    assert 0.38 < np.mean([low <= 2 <= high for low, high in narrower]) < 0.62


def test_bootstrap_of_a_mean_is_the_textbook_interval():
    values = np.random.default_rng(1).normal(5, 3, 400)
    error = values.std() / 20
    expected = (values.mean() - 1.96 * error, values.mean() + 1.96 * error)
    assert bootstrap_interval(values, resamples=4000) == pytest.approx(expected, abs=0.1 * error)
    assert (
        bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)
    )
    pairs = np.stack([values, values - 1], axis=1)
    assert bootstrap_interval(pairs, lambda v: (v[:, 0] - v[:, 1]).mean()) == pytest.approx((1, 1))


def test_intervals_refuse_impossible_input():
    for arguments in ((5, 4), (-1, 4), (0, 0), (1, 2, 1.0)):
        with pytest.raises(ValueError, match="successes"):
            wilson_interval(*arguments)
    with pytest.raises(ValueError, match="at least two values"):
        bootstrap_interval([1.0])


def test_two_way_interval_varies_seeds_and_questions():
    """Against draws written as loops; and it is wider than one that takes the seeds as given."""
    random = np.random.default_rng(0)
    values = random.normal(size=(3, 1)) + random.normal(size=(3, 40))
    means = []
    for _ in range(4000):
        rows, columns = random.integers(0, 3, 3), random.integers(0, 40, 40)
        means.append(np.mean([[values[i, j] for j in columns] for i in rows]))
    low, high = two_way_interval(values, resamples=4000)
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.05)
    fixed = bootstrap_interval(values.T, np.mean)
    assert high - low > 1.3 * (fixed[1] - fixed[0])
    assert two_way_interval(values, confidence=0.5)[1] < high
    assert two_way_interval(values[:1]) == pytest.approx(bootstrap_interval(values[0]), abs=0.05)
    assert two_way_interval(values, seed=1) != two_way_interval(values) == two_way_interval(values)


@pytest.mark.parametrize("values", [[1.0, 2.0], [[]], [[[1.0]]]])
def test_two_way_interval_wants_seeds_and_questions(values):
    with pytest.raises(ValueError, match="seeds, questions"):
        two_way_interval(values)


# --- memorisation ---------------------------------------------------------------------------------------------------


def brute_force(sample: list[int], training: list[list[int]]) -> int:
    runs = {tuple(d[i:j]) for d in training for i in range(len(d)) for j in range(i + 1, len(d) + 1)}
    return max(
        (j - i for i in range(len(sample)) for j in range(i + 1, len(sample) + 1) if tuple(sample[i:j]) in runs),
        default=0,
    )


@pytest.mark.parametrize("alphabet", [1, 2, 3, 6, 30])
def test_longest_copied_run_is_that_of_a_brute_force(alphabet):
    random = np.random.default_rng(alphabet)
    for _ in range(40):
        lengths = random.integers(0, 25, 8)
        rows = [random.integers(0, alphabet, length).tolist() for length in lengths]
        samples, training = rows[:4], rows[4:]
        found = longest_copied_run(samples, iter(training))
        assert [run.length for run in found] == [brute_force(sample, training) for sample in samples]
        for sample, run in zip(samples, found, strict=True):
            if run.length:
                copied = sample[run.start : run.start + run.length]
                assert training[run.document][run.document_start :][: run.length] == copied


def test_a_planted_copy_is_found_and_shuffled_text_has_none(tokenizer):
    lines = [tokenizer.encode(line) for line in TEXT.split("\n") if line]
    random = np.random.default_rng(0)
    shuffled = random.permutation(lines[0]).tolist()
    planted = [399, *lines[2][5:25], 399]
    copied, other, whole = longest_copied_run([planted, shuffled, lines[1]], [np.array(line) for line in lines])
    assert copied == CopiedRun(20, 1, 2, 5)
    assert other.length < 5
    assert whole == CopiedRun(len(lines[1]), 0, 1, 0)
    assert longest_copied_run([planted], []) == [CopiedRun(0)] and longest_copied_run([], lines) == []
