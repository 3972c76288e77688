"""Generation: the cache changes nothing, the sampling rules are the reference's, batches equal single prompts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillama import data_path
from minillama.model import generation
from minillama.model.config import ModelConfig
from minillama.model.generation import (
    generate,
    keep_top_k,
    keep_top_p,
    next_token_distribution,
    store_by_columns,
    stream,
    stream_text,
)
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

CONFIGS = {
    "mha": ModelConfig(dim=32, n_layers=2, n_heads=4, vocab_size=61, multiple_of=16, max_seq_len=48),
    "gqa": ModelConfig(dim=48, n_layers=3, n_heads=6, n_kv_heads=2, vocab_size=97, multiple_of=8, max_seq_len=40),
    "mqa": ModelConfig(dim=32, n_layers=1, n_heads=8, n_kv_heads=1, vocab_size=33, multiple_of=4, max_seq_len=33),
}


def lively(config: ModelConfig, seed: int = 0) -> Llama:
    """A random float64 model with large weights, so that its distributions are far from uniform."""
    model = Llama(config, seed).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(50.0 if "embed" in name else 8.0)
    return model


@pytest.fixture(params=CONFIGS)
def model(request) -> Llama:
    return lively(CONFIGS[request.param])


def chain_model(config: ModelConfig, after: dict[int, int]) -> Llama:
    """A Llama whose layers add nothing and whose head answers each token with its successor in `after`."""
    model = Llama(config).eval()
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.wo.weight.zero_()
            layer.feed_forward.w2.weight.zero_()
        vectors = torch.nn.functional.normalize(torch.randn(model.tok_embeddings.weight.shape, generator=seeded(1)))
        model.tok_embeddings.weight.copy_(vectors)
        model.output.weight.zero_()
        for token, successor in after.items():
            model.output.weight[successor] += vectors[token]
    return model


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# The cache, batches and streams


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.3])
def test_cached_generation_equals_recomputation_token_by_token(model, temperature):
    prompts = [[1, 5, 9, 2], [1, 7]]
    runs = [
        generate(model, prompts, 20, temperature=temperature, generator=seeded(3), use_cache=use_cache)
        for use_cache in (True, False)
    ]
    for cached, recomputed in zip(*runs, strict=True):
        assert cached.tokens == recomputed.tokens and len(cached.tokens) == 20
        assert cached.logprobs == pytest.approx(recomputed.logprobs, abs=1e-10)


def test_greedy_equals_a_loop_of_full_forwards(model):
    ids = [1, 4, 2]
    with torch.no_grad():
        for _ in range(15):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    assert generate(model, [[1, 4, 2]], 15, temperature=0)[0].tokens == ids[3:]


def test_unequal_prompts_in_a_batch_equal_one_by_one(model):
    prompts = [[1], [1, 3, 8, 8, 2, 30], [1, 9, 4], [1, 3, 8]]
    together = generate(model, prompts, 12, temperature=0, echo=True)
    for prompt, completion in zip(prompts, together, strict=True):
        alone = generate(model, [prompt], 12, temperature=0, echo=True)[0]
        assert completion.tokens == alone.tokens and completion.stop_reason == alone.stop_reason
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-10)
        assert completion.tokens[: len(prompt)] == prompt and len(completion.tokens) == len(prompt) + 12


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {}, {"temperature": 1.0, "top_k": 5, "top_p": None}])
def test_stream_equals_generate(model, options):
    streamed = list(stream(model, [1, 2, 3], 20, generator=seeded(5), **options))
    assert streamed == generate(model, [[1, 2, 3]], 20, generator=seeded(5), **options)[0].tokens


def test_stream_hands_over_a_token_before_the_next_is_computed(model):
    calls = []
    handle = model.output.register_forward_hook(lambda *_: calls.append(1))
    tokens = stream(model, [1, 2], 10, temperature=0)
    assert calls == []
    next(tokens)
    assert len(calls) == 1
    handle.remove()


def test_the_context_length_ends_a_row(model):
    longest = model.config.max_seq_len
    short, long = generate(model, [[1, 2], [1] * (longest - 3)], 10_000, temperature=0)
    assert len(short.tokens) == longest - 2 and len(long.tokens) == 3
    assert short.stop_reason == long.stop_reason == "length"


def test_each_row_gets_max_new_tokens_whatever_the_longest_prompt(model):
    completions = generate(model, [[1], [1, 2, 3, 4, 5]], 4, temperature=0)
    assert [len(c.tokens) for c in completions] == [4, 4]


def test_same_seed_same_text_other_seed_other_text(model):
    def sample(seed):
        return generate(model, [[1, 2]], 25, temperature=1.5, top_p=None, generator=seeded(seed))[0].tokens

    assert sample(1) == sample(1) != sample(2)
    torch.manual_seed(9)
    first = generate(model, [[1, 2]], 25)[0].tokens
    torch.manual_seed(9)
    assert generate(model, [[1, 2]], 25)[0].tokens == first


def test_sampling_leaves_a_model_that_can_still_be_trained(model):
    generate(model, [[1, 2]], 5)
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_and_single_precision_models_generate_too(dtype):
    completion = generate(lively(CONFIGS["gqa"]).to(dtype), [[1, 2, 3]], 10, generator=seeded(0))[0]
    assert len(completion.tokens) == 10 and all(value <= 0 for value in completion.logprobs)


# Log-probabilities


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_logprobs_are_the_log_softmax_of_a_full_forward(model, temperature):
    prompts = [[1, 5], [1, 6, 2, 7, 3]]
    for prompt, completion in zip(
        prompts, generate(model, prompts, 9, temperature=temperature, generator=seeded(1), echo=True), strict=True
    ):
        ids = torch.tensor([completion.tokens])
        with torch.no_grad():
            full = model(ids).log_softmax(-1)[0, :-1]  # position t predicts token t + 1
        expected = full.gather(-1, ids[0, 1:, None])[:, 0]
        assert completion.logprobs[0] == 0.0  # nothing comes before the first token
        assert completion.logprobs[1:] == pytest.approx(expected.tolist(), abs=1e-10)
        assert completion.tokens[: len(prompt)] == prompt


def test_logprobs_of_a_prompt_one_short_of_the_limit(model):
    # the longest prompt that is allowed leaves one column: the edge at which an unshifted score would slip in
    prompt = [1 + i % 7 for i in range(model.config.max_seq_len - 1)]
    completion = generate(model, [prompt], 50, temperature=0, echo=True)[0]
    assert len(completion.tokens) == model.config.max_seq_len
    ids = torch.tensor([completion.tokens])
    with torch.no_grad():
        shifted = model(ids).log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
    assert completion.logprobs[1:] == pytest.approx(shifted.tolist(), abs=1e-10)


def test_logprobs_do_not_depend_on_the_sampling_settings(model):
    options = [{"temperature": 0.0}, {"temperature": 0.3, "top_k": 1}, {"temperature": 2.0, "top_p": 1e-6}]
    first, *others = [generate(model, [[1, 2]], 8, **o)[0] for o in options]
    for other in others:
        assert other.tokens == first.tokens
        assert other.logprobs == pytest.approx(first.logprobs, abs=1e-10)


# Stopping

CHAIN = ModelConfig(dim=64, n_layers=2, n_heads=4, vocab_size=40, multiple_of=16, max_seq_len=64)


def test_a_generated_stop_token_ends_the_row_and_is_left_out():
    model = chain_model(CHAIN, {1: 10, 10: 11, 11: 2, 2: 12, 12: 13, 13: 13})
    completion = generate(model, [[1]], 8, temperature=0, stop_tokens=(2,))[0]
    assert completion.tokens == [10, 11] and completion.stop_reason == "stop" and len(completion.logprobs) == 2
    assert list(stream(model, [1], 8, temperature=0, stop_tokens=[2])) == [10, 11]
    without = generate(model, [[1]], 8, temperature=0)[0]
    assert without.tokens == [10, 11, 2, 12, 13, 13, 13, 13] and without.stop_reason == "length"


@pytest.mark.parametrize("echo", [False, True])
def test_a_stop_token_inside_the_prompt_does_not_count(echo):
    model = chain_model(CHAIN, {1: 10, 10: 11, 11: 2, 2: 12, 12: 2})
    prompt = [1, 2, 10, 2]  # an earlier turn of a dialogue ended here
    completions = generate(model, [prompt, [1]], 6, temperature=0, stop_tokens=(2,), echo=echo)
    assert completions[0].tokens == (prompt if echo else []) + [12]
    assert completions[1].tokens == ([1] if echo else []) + [10, 11]
    assert [c.stop_reason for c in completions] == ["stop", "stop"]


def test_rows_stop_independently_and_several_stop_tokens_work():
    model = chain_model(CHAIN, {1: 10, 10: 2, 5: 20, 20: 21, 21: 3, 6: 6})
    first, second, third = generate(model, [[1], [5], [6]], 5, temperature=0, stop_tokens={2, 3})
    assert (first.tokens, second.tokens, third.tokens) == ([10], [20, 21], [6] * 5)
    assert [c.stop_reason for c in (first, second, third)] == ["stop", "stop", "length"]


def test_generation_ends_early_when_every_row_has_stopped():
    model = chain_model(CHAIN, {1: 2, 2: 2})
    calls = []
    model.output.register_forward_hook(lambda *_: calls.append(1))
    completions = generate(model, [[1], [1, 1]], 30, temperature=0, stop_tokens=(2,))
    assert [c.tokens for c in completions] == [[], []] and len(calls) <= 2


# Sampling rules


def reference_top_p(probs: list[float], p: float) -> list[float]:
    """The rule in words: go through the entries from the most probable one, drop those with more than p before them."""
    kept, before = [0.0] * len(probs), 0.0
    for i in sorted(range(len(probs)), key=lambda i: -probs[i]):  # stable: of equals, the lower id first
        if before <= p:
            kept[i] = probs[i]
        before += probs[i]
    total = sum(kept)
    return [value / total for value in kept]


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (0.25, [0]),
        (0.49, [0]),
        (0.5, [0, 1]),
        (0.74, [0, 1]),
        (0.75, [0, 1, 2]),
        (0.875, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_drops_what_has_more_than_p_before_it(p, kept):
    # halves and quarters are exact, so "more than p" can be tested at equality
    probs = torch.tensor([0.5, 0.25, 0.125, 0.125])
    assert keep_top_p(probs, p).nonzero().flatten().tolist() == kept
    assert keep_top_p(probs.flip(0), p).flip(0).nonzero().flatten().numel() == len(kept)


def test_top_p_keeps_the_most_probable_token_even_when_it_alone_exceeds_p():
    probs = torch.tensor([0.01, 0.98, 0.01])
    assert keep_top_p(probs, 1e-9).tolist() == [0.0, 1.0, 0.0]


def test_top_p_of_equal_entries_keeps_the_lower_ids():
    assert keep_top_p(torch.full((8,), 0.125), 0.25).nonzero().flatten().tolist() == [0, 1, 2]


def test_sampling_filters_are_right_for_each_row_of_a_batch():
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]])
    assert keep_top_p(probs, 0.6).tolist() == [[1.0, 0.0, 0.0], [0.0, pytest.approx(0.375), pytest.approx(0.625)]]
    assert keep_top_k(probs, 2)[0].tolist() == pytest.approx([7 / 9, 2 / 9, 0.0])
    assert keep_top_k(probs, 2)[1].tolist() == pytest.approx([0.0, 0.375, 0.625])


weights = st.lists(st.integers(min_value=0, max_value=20), min_size=1, max_size=30).filter(any)


@settings(max_examples=200, deadline=None)
@given(weights, st.floats(min_value=1e-6, max_value=1.0))
def test_top_p_equals_the_rule_in_words(counts, p):
    probs = torch.tensor(counts, dtype=torch.float64)
    probs = probs / probs.sum()
    before = (probs.sort(descending=True).values.cumsum(0) - probs.sort(descending=True).values - p).abs().min()
    if before < 1e-9:
        return  # at exact equality rounding decides; the dyadic cases above test it
    assert keep_top_p(probs, p).tolist() == pytest.approx(reference_top_p(probs.tolist(), p), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(weights, st.integers(min_value=1, max_value=40))
def test_top_k_keeps_the_k_largest(counts, k):
    probs = torch.tensor(counts, dtype=torch.float64)
    probs = probs / probs.sum()
    kept = keep_top_k(probs, k)
    order = sorted(range(len(counts)), key=lambda i: -counts[i])[:k]
    total = sum(float(probs[i]) for i in order)
    assert kept.tolist() == pytest.approx(
        [float(p) / total if i in order else 0 for i, p in enumerate(probs)], abs=1e-12
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(min_value=-80, max_value=80), min_size=2, max_size=20), st.floats(min_value=1e-6, max_value=1e6)
)
def test_any_temperature_gives_a_distribution_that_keeps_the_order(logits, temperature):
    probs = next_token_distribution(torch.tensor(logits), temperature)
    assert float(probs.sum()) == pytest.approx(1.0, abs=1e-5)
    order = torch.tensor(logits).argsort(stable=True)
    assert bool((probs[order].diff() >= -1e-7).all())


def test_temperature_divides_the_logits():
    logits = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    for temperature in (0.25, 1.0, 3.0):
        powers = [math.exp(z / temperature) for z in (1.0, 2.0, 4.0)]
        expected = [power / sum(powers) for power in powers]
        assert next_token_distribution(logits, temperature).tolist() == pytest.approx(expected, abs=1e-12)


def test_temperature_zero_is_argmax_and_a_tiny_one_does_not_overflow():
    logits = torch.tensor([[3.0, 900.0, 899.0], [5.0, -1.0, 5.0]])
    assert next_token_distribution(logits, 0).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert next_token_distribution(logits[0], 1e-30).tolist() == [0.0, 1.0, 0.0]


def test_top_k_comes_before_top_p():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    both = next_token_distribution(logits, 1.0, top_k=2, top_p=0.5)
    assert both.tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=1e-6)  # 0.4 / 0.7 alone is already past 0.5
    assert next_token_distribution(logits, 1.0, top_p=0.5)[1] > 0


def test_samples_follow_the_distribution():
    model = lively(CONFIGS["mha"])
    with torch.no_grad():
        probs = next_token_distribution(model(torch.tensor([[1, 2]]))[0, -1] / 6, 1.0, top_p=0.9)
        model.output.weight /= 6
    n = 4000
    drawn = generate(model, [[1, 2]] * n, 1, temperature=1.0, top_p=0.9, generator=seeded(0))
    counts = torch.bincount(torch.tensor([c.tokens[0] for c in drawn]), minlength=probs.numel()).double()
    possible = probs > 0
    assert int(possible.sum()) > 5 and float(counts[~possible].sum()) == 0
    chi2 = float(((counts - n * probs)[possible] ** 2 / (n * probs[possible])).sum())
    freedom = int(possible.sum()) - 1
    assert chi2 < freedom + 5 * math.sqrt(2 * freedom)  # five standard deviations


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0 or more, got -0.1"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"temperature": 0.0, "top_p": 2.0}, "top_p"),
        ({"temperature": 0.0, "top_k": -1}, "top_k"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"prompts": []}, "prompts is empty"),
        ({"prompts": [[1], []]}, "prompt 1 is empty"),
        ({"prompts": [[1, 61]]}, r"token id 61, outside the vocabulary 0\.\.60"),
        ({"prompts": [[1, -1]]}, "token id -1"),
        ({"prompts": [[1] * 48]}, "48 tokens and the model's max_seq_len is 48"),
    ],
)
def test_impossible_requests_say_what_is_wrong(change, message):
    arguments = {"prompts": [[1, 2]], "max_new_tokens": 3} | change
    with pytest.raises(ValueError, match=message):
        generate(Llama(CONFIGS["mha"]), **arguments)
    if len(arguments["prompts"]) == 1:
        prompt = arguments.pop("prompts")[0]
        with pytest.raises(ValueError, match=message):
            next(stream(Llama(CONFIGS["mha"]), prompt, **arguments))


def test_broken_weights_are_reported_instead_of_sampled():
    model = Llama(CONFIGS["mha"])
    with torch.no_grad():
        model.norm.weight[3] = math.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(ValueError, match="not finite"):
            generate(model, [[1, 2]], 3, temperature=temperature)


# Text


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([data_path("page.txt").read_text(encoding="utf-8")], vocab_size=400)


def speaking(tokenizer: Tokenizer, prompt: str, ids: list[int]) -> Llama:
    """A model that answers `prompt` with exactly `ids` (all different) and then EOS."""
    path = [tokenizer.encode(prompt, bos=True)[-1], *ids, tokenizer.eos_id]
    config = ModelConfig(
        dim=128, n_layers=1, n_heads=2, vocab_size=tokenizer.vocab_size, multiple_of=16, max_seq_len=64
    )
    return chain_model(config, dict(zip(path, path[1:], strict=False)))


def test_streamed_text_never_holds_half_a_character(tokenizer):
    llama = tokenizer.encode("🦙é")  # byte pieces, and the dummy prefix in front
    model = speaking(tokenizer, "The fox", llama)
    pieces = list(stream_text(model, tokenizer, "The fox", 20, temperature=0))
    assert "".join(pieces) == " 🦙é"
    assert all("\ufffd" not in piece and piece for piece in pieces)
    assert len(llama) == 7 and len(pieces) == 3  # "▁", four bytes, two bytes


def test_bytes_that_never_become_a_character_are_shown_at_the_end(tokenizer):
    ids = tokenizer.encode("🦙")[:-1]  # one byte is missing
    pieces = list(stream_text(speaking(tokenizer, "The fox", ids), tokenizer, "The fox", 20, temperature=0))
    prompt = tokenizer.encode("The fox")
    assert "".join(pieces) == tokenizer.decode(prompt + ids)[len("The fox") :]
    assert "\ufffd" in pieces[-1] and "\ufffd" not in "".join(pieces[:-1])


def test_streamed_text_is_the_decoded_completion(tokenizer):
    config = ModelConfig(dim=32, n_layers=2, n_heads=4, vocab_size=tokenizer.vocab_size, multiple_of=16, max_seq_len=96)
    model = lively(config).float()
    prompt = tokenizer.encode("The old hen", bos=True)
    for seed in range(6):  # random weights: byte pieces in any order
        ids = generate(model, [prompt], 60, 1.5, None, None, (tokenizer.eos_id,), seeded(seed))[0].tokens
        settings = {"temperature": 1.5, "top_p": None, "generator": seeded(seed)}
        text = "".join(stream_text(model, tokenizer, "The old hen", 60, **settings))
        assert tokenizer.decode(prompt + ids) == "The old hen" + text


# Rows that are finished


@pytest.mark.parametrize("use_cache", [True, False])
def test_rows_left_out_when_finished_change_no_greedy_token(model, use_cache):
    prompts = [[1, *[3 + (i * n) % 20 for i in range(n)]] for n in (1, 4, 2, 9, 1, 6, 3, 5)]
    longest = model.config.max_seq_len - 10
    plain = generate(model, prompts, longest, temperature=0, use_cache=use_cache)
    stops = sorted({c.tokens[i] for i, c in enumerate(plain)})  # so that rows end at different columns
    options = {"temperature": 0, "stop_tokens": stops, "use_cache": use_cache}
    kept = generate(model, prompts, longest, **options)
    dropped = generate(model, prompts, longest, bulk=True, **options)
    assert len({len(c.tokens) for c in kept}) > 2
    for one, other in zip(kept, dropped, strict=True):
        assert one.tokens == other.tokens and one.stop_reason == other.stop_reason
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-9)


def test_finished_rows_are_no_longer_computed():
    after = {1: 10, 10: 2, 5: 20, **{t: t + 1 for t in range(20, 38)}}  # one row stops at once, the other late
    model, sizes = chain_model(CHAIN, after), []
    handle = model.output.register_forward_hook(lambda _, __, logits: sizes.append(logits.shape[0]))
    options = {"temperature": 0, "stop_tokens": (2,)}
    kept = generate(model, [[1], [5], [1], [1]], 12, **options)
    assert set(sizes) == {4}
    sizes.clear()
    dropped = generate(model, [[1], [5], [1], [1]], 12, bulk=True, **options)
    handle.remove()
    assert sizes == [4, 4, *[1] * 10] and [c.tokens for c in dropped] == [c.tokens for c in kept]
    assert [c.tokens for c in dropped] == [[10], list(range(20, 32)), [10], [10]]


def test_equal_prompts_are_read_once_in_bulk(model):
    lengths = []
    handle = model.tok_embeddings.register_forward_hook(lambda _, __, out: lengths.append(tuple(out.shape[:2])))
    prompts = [[1, 3, 4], [1, 3, 4], [1, 3, 4, 5, 6], [1, 7, 4], [1, 3, 4]]
    options = {"temperature": 0, "stop_tokens": ()}
    one_by_one = [generate(model, [p], 6, **options)[0].tokens for p in prompts]
    lengths.clear()
    assert [c.tokens for c in generate(model, prompts, 6, bulk=True, **options)] == one_by_one
    handle.remove()
    assert lengths[0] == (2, 3) and lengths[1] == (5, 1)


def test_quick_draws_have_the_probabilities_of_the_model():
    logits = torch.tensor([[0.0, 1.0, 2.0, -math.inf, 0.5, -math.inf]]).repeat(40_000, 1)
    generator = torch.Generator().manual_seed(0)
    for temperature, top_k, top_p in ((1.0, None, None), (0.5, None, None), (1.0, 2, None), (1.0, None, 0.8)):
        wanted = next_token_distribution(logits[:1], temperature, top_k, top_p)[0]
        ids = generation._pick_quickly(logits, temperature, top_k, top_p, generator)
        found = torch.bincount(ids, minlength=6) / len(ids)
        assert (found - wanted).abs().max() < 0.012  # four standard errors
        assert (found[wanted == 0] == 0).all()
    assert generation._pick_quickly(logits[:2], 0, None, None, generator).tolist() == [2, 2]


# Storage order


def test_store_by_columns_changes_the_storage_and_nothing_else():
    config = ModelConfig(dim=32, n_layers=2, n_heads=4, vocab_size=100, multiple_of=16, hidden_dim=96, max_seq_len=32)
    model, twin = lively(config), lively(config)
    names, ids = list(model.state_dict()), torch.tensor([[1, 2, 3, 4]])
    assert store_by_columns(twin) is twin
    assert list(twin.state_dict()) == names
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name])
        tall = value.dim() == 2 and value.shape[0] >= 2 * value.shape[1] and "embed" not in name
        assert (twin.state_dict()[name].stride(0) == 1) == (tall or value.dim() == 1), name
    assert torch.allclose(model(ids), twin(ids), atol=1e-10, rtol=0)
    model(ids).square().mean().backward()
    twin(ids).square().mean().backward()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-8)
    assert (
        generate(model, [[1, 2]], 20, temperature=0)[0].tokens == generate(twin, [[1, 2]], 20, temperature=0)[0].tokens
    )
