"""The adapter for lm-evaluation-harness: against the harness's own Hugging Face model on the same weights and pieces,
against our own evaluation on local tasks, and against one pass over one row. No test may open a connection.

Tolerance 1e-4 nats: float32 sums of some ten logprobs, each of size 1 to 10, in another order.
"""

import importlib
import json
import logging
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import decoders, normalizers, processors

from minillama import data_path
from minillama.model.bpe import NORMAL
from minillama.model.checkpoints import _meta_name, save_safetensors
from minillama.model.config import ModelConfig
from minillama.model.generation import generate
from minillama.model.rope import permute_to_hf
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.evaluation import bits_per_byte, multiple_choice, token_losses
from minillama.pretraining.harness import MinillamaLM

TEXT = data_path("page.txt").read_text(encoding="utf-8")
LINES = [line for line in TEXT.split("\n") if len(line) > 40]
CONFIG = ModelConfig(dim=32, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=400, multiple_of=16, max_seq_len=48)


@pytest.fixture(autouse=True)
def no_connections(monkeypatch):
    def refuse(self, address):
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a connection to {address} was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT], 400)


@pytest.fixture(scope="module")
def model(tokenizer) -> Llama:
    model = Llama(CONFIG, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() == 2 else 1)  # so that it has opinions
        # answers are made of text: the two decoders differ on bytes that make no character, and on <unk>
        model.output.weight[[piece.kind != NORMAL for piece in tokenizer.vocabulary.pieces]] = 0
    return model


@pytest.fixture(scope="module")
def ours(model, tokenizer) -> MinillamaLM:
    return MinillamaLM(model, tokenizer, batch_size=3)


def hf_tokenizer(tokenizer: Tokenizer) -> transformers.PreTrainedTokenizerFast:
    """The same vocabulary for `transformers`, set up like Llama 2's there: every way to join two pieces, by score."""
    pieces = tokenizer.vocabulary.pieces
    joinable = {piece.text for piece in pieces if piece.kind == NORMAL}
    merges = [
        (piece.text[:cut], piece.text[cut:])
        for piece in sorted(pieces, key=lambda piece: -piece.score)
        for cut in range(1, len(piece.text))
        if piece.kind == NORMAL and {piece.text[:cut], piece.text[cut:]} <= joinable
    ]
    ids = {piece.text: number for number, piece in enumerate(pieces)}
    fast = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=ids, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    fast.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fast.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", tokenizer.bos_id)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def hf_model(model: Llama) -> transformers.LlamaForCausalLM:
    config = model.config
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=config.dim,
            intermediate_size=config.ffn_hidden,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_kv_heads,
            vocab_size=config.vocab_size,
            rms_norm_eps=config.norm_eps,
            max_position_embeddings=config.max_seq_len,
        )
    ).eval()
    state = {}
    for name in theirs.state_dict():
        weight = model.state_dict()[_meta_name(name)]
        heads = {"q_proj": config.n_heads, "k_proj": config.n_kv_heads}.get(name.split(".")[-2])
        state[name] = weight if heads is None else permute_to_hf(weight, heads)
    theirs.load_state_dict(state)
    return theirs


@pytest.fixture(scope="module")
def theirs(model, tokenizer) -> HFLM:
    return HFLM(pretrained=hf_model(model), tokenizer=hf_tokenizer(tokenizer), batch_size=4)


def requests(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=pair, idx=i) for i, pair in enumerate(arguments)]


def same(ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> None:
    assert [pair[0] for pair in ours] == pytest.approx([pair[0] for pair in theirs], abs=1e-4)
    assert [pair[1] for pair in ours] == [pair[1] for pair in theirs]


# --- continuations --------------------------------------------------------------------------------------------------

PAIRS = [
    ("The hen saw the fox.", " The fox ran."),
    ("The hen saw", " the miller and the baker"),
    ("The hen saw ", "the miller"),  # the harness moves the space
    ("The hen saw the bak", "ing of bread"),  # a merge across the boundary
    ("", "The hen"),  # BOS is the context
    ("  ", "The hen"),
    ("Who?\n", "\n the Fuchs: über 12 €"),  # bytes
    ("<s> The hen", " </s>"),  # text, not control tokens
    (LINES[0] * 3, " the end"),  # exceeds the context: cut from the left
    ("The hen", LINES[1][:60]),
    *[("Answer:", f" {letter}") for letter in "abcd"],  # one forward pass for four
]


def test_the_pieces_are_the_same_there(tokenizer, theirs):
    for text in [*LINES, *(a + b for a, b in PAIRS if "<s>" not in a), " two  spaces ", "a\n\nb"]:
        ids = tokenizer.encode(text, bos=True)
        assert theirs.tok_encode(text) == ids
        assert theirs.tok_decode(ids) == tokenizer.decode(ids)


def test_log_probabilities_are_those_of_the_harness_s_own_model(ours, theirs):
    pairs = [pair for pair in PAIRS if "<s>" not in pair[0]]  # there, "<s>" in a text is BOS
    asked = requests("loglikelihood", pairs)
    found = ours.loglikelihood(asked, disable_tqdm=True)
    assert len({round(logprob, 3) for logprob, _ in found}) == len(pairs)
    same(found, theirs.loglikelihood(asked, disable_tqdm=True))


def test_log_probabilities_are_those_of_one_pass_over_one_row(ours, model, tokenizer):
    for context, continuation in [PAIRS[0], PAIRS[1], PAIRS[7]]:
        start = len(tokenizer.encode(context, bos=True))
        losses = token_losses(model, tokenizer.encode(context + continuation, bos=True))
        (answer,) = ours.loglikelihood(requests("loglikelihood", [(context, continuation)]), disable_tqdm=True)
        assert answer[0] == pytest.approx(-losses[start - 1 :].sum().item(), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batches_change_nothing_and_answers_keep_their_places(ours, model, tokenizer, batch_size):
    alone = [ours.loglikelihood(requests("loglikelihood", [pair]), disable_tqdm=True)[0] for pair in PAIRS]
    other = MinillamaLM(model, tokenizer, batch_size)
    same(other.loglikelihood(requests("loglikelihood", PAIRS), disable_tqdm=True), alone)


def test_greedy_is_said_of_what_the_model_would_say_and_of_nothing_else(ours, theirs, model, tokenizer):
    start = tokenizer.encode("The hen saw", bos=True)
    (said,) = generate(model, [start], 5, temperature=0)
    rows = [((None, None), start, said.tokens[:n]) for n in (1, 2, 5)]
    rows += [((None, None), start, [*said.tokens[:n], (said.tokens[n] + 1) % 400]) for n in (0, 1, 4)]
    found = ours._loglikelihood_tokens([(None, *row[1:]) for row in rows], disable_tqdm=True)
    assert [greedy for _, greedy in found] == [True] * 3 + [False] * 3
    same(found, theirs._loglikelihood_tokens([(None, *row[1:]) for row in rows], disable_tqdm=True))
    assert found[2][0] == pytest.approx(sum(said.logprobs), abs=1e-4)


def test_options_of_one_token_are_computed_once(ours, model, monkeypatch):
    rows = []
    hidden_states = model.hidden_states
    monkeypatch.setattr(model, "hidden_states", lambda tokens: rows.append(len(tokens)) or hidden_states(tokens))
    ours.loglikelihood(requests("loglikelihood", PAIRS[-4:] + PAIRS[:1]), disable_tqdm=True)
    assert rows == [2]


def test_a_cut_is_reported(ours, caplog):
    with caplog.at_level(logging.WARNING):
        ours.loglikelihood(requests("loglikelihood", [PAIRS[0], PAIRS[8]]), disable_tqdm=True)
    assert "1 of 2 requests exceed 49 tokens" in caplog.text


# --- whole texts ----------------------------------------------------------------------------------------------------


def texts_of_lengths(tokenizer: Tokenizer, lengths: list[int]) -> list[str]:
    ids = tokenizer.encode(TEXT.replace("\n", " "))
    texts = [tokenizer.decode(ids[:length]) for length in lengths]
    assert [len(tokenizer.encode(text)) for text in texts] == lengths
    return texts


def test_whole_texts_are_scored_in_the_harness_s_windows(ours, model, tokenizer):
    texts = texts_of_lengths(tokenizer, [1, 2, 47, 48, 49, 50, 96, 97, 130])
    asked = requests("loglikelihood_rolling", [(text,) for text in texts])
    found = ours.loglikelihood_rolling(asked, disable_tqdm=True)
    without_bos = HFLM(pretrained=hf_model(model), tokenizer=hf_tokenizer(tokenizer), add_bos_token=False)
    assert found == pytest.approx(without_bos.loglikelihood_rolling(asked, disable_tqdm=True), abs=5e-4)
    for text, total in list(zip(texts, found, strict=True))[:4]:  # one window
        assert total == pytest.approx(-token_losses(model, tokenizer.encode(text, bos=True)).sum().item(), abs=1e-4)
    row = tokenizer.encode(texts[-1])  # 48 after BOS, 48 more, and 34 that see what the window has room for
    last = token_losses(model, row[-49:])[-34:].sum()
    by_hand = token_losses(model, [tokenizer.bos_id, *row[:48]]).sum() + token_losses(model, row[47:96]).sum() + last
    assert found[-1] == pytest.approx(-by_hand.item(), abs=5e-4)
    assert ours.loglikelihood_rolling(requests("loglikelihood_rolling", [("",)]), disable_tqdm=True) == [0.0]


def test_bos_is_charged_by_the_harness_s_own_model_and_not_here(ours, theirs, model, tokenizer):
    asked = requests("loglikelihood_rolling", [("The hen saw the fox.",)])
    (extra,) = theirs.loglikelihood_rolling(asked, disable_tqdm=True)
    row = [tokenizer.bos_id] * 2 + tokenizer.encode("The hen saw the fox.")
    assert extra == pytest.approx(-token_losses(model, row).sum().item(), abs=1e-4)
    assert ours.loglikelihood_rolling(asked, disable_tqdm=True)[0] - extra > 0.1


# --- answers --------------------------------------------------------------------------------------------------------

CONTEXTS = ["The hen", "The miller found a loaf of bread near the river, and", "Who?", LINES[0] * 3, "12 €", ""]


def answers(model: MinillamaLM | HFLM, settings: dict, contexts: list[str] = CONTEXTS) -> list[str]:
    return model.generate_until(requests("generate_until", [(c, dict(settings)) for c in contexts]), disable_tqdm=True)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_greedy_answers_are_those_of_the_harness_s_own_model(ours, theirs, count):
    found = answers(ours, {"until": [], "max_gen_toks": count})
    assert found == answers(theirs, {"until": [], "max_gen_toks": count})
    assert len(set(found)) > 3


def test_an_answer_ends_before_its_first_stop_string(ours, theirs, monkeypatch):
    free = answers(ours, {"until": [], "max_gen_toks": 40})
    longest = max(free, key=len)
    for cut in range(1, len(longest) - 3, 7):
        stops = [longest[cut : cut + 3]]
        stops += [char for char in ".nq" if char not in stops[0]]
        found = answers(ours, {"until": [*stops, ""], "max_gen_toks": 40})
        assert found == answers(theirs, {"until": list(stops), "max_gen_toks": 40})
        assert not any(stop in text for stop in stops for text in found)
        assert all(text == whole[: len(text)] for text, whole in zip(found, free, strict=True))
        for burst in (1, 40):
            monkeypatch.setattr("minillama.pretraining.harness.FIRST_BURST", burst)
            assert answers(ours, {"until": stops, "max_gen_toks": 40}) == found


def test_of_two_stop_strings_the_one_that_was_complete_first_counts(ours, tokenizer):
    """The harness's own model may write on for the sake of other rows, and then its answer depends on the batch."""
    ids = tokenizer.encode("The hen saw the fox.")
    assert ours._until(ids, ["hen saw", "en"]) == ours._until(ids, ["en", "hen saw"]) == ("The h", True)
    assert ours._until(ids, ["hen saw", "fox"]) == ("The ", True)
    assert ours._until(ids, ["hens"]) == ours._until(ids, []) == ("The hen saw the fox.", False)


def test_rows_that_are_done_leave_the_batch(ours, model, monkeypatch):
    free = answers(ours, {"until": [], "max_gen_toks": 40}, CONTEXTS[:3])
    early = next(text[:4] for text in free if sum(text[:4] in other for other in free) == 1)
    calls = []
    monkeypatch.setattr(
        "minillama.pretraining.harness.generate",
        lambda model, rows, count, *rest: calls.append((len(rows), count)) or generate(model, rows, count, *rest),
    )
    answers(ours, {"until": early, "max_gen_toks": 40}, CONTEXTS[:3])
    assert calls == [(3, 16), (2, 24)]


def test_eos_ends_an_answer(tokenizer):
    model = Llama(CONFIG)
    with torch.no_grad():  # the next token depends on the present one alone: a -> b -> EOS
        a, b = tokenizer.encode("The hen")[:2]
        for layer in model.layers:
            layer.attention.wo.weight.zero_()
            layer.feed_forward.w2.weight.zero_()
        model.output.weight.zero_()
        for now, following in ((tokenizer.bos_id, a), (a, b), (b, tokenizer.eos_id)):
            model.output.weight[following] += model.tok_embeddings.weight[now]
    adapter = MinillamaLM(model, tokenizer)
    assert answers(adapter, {"until": [], "max_gen_toks": 20}, [""]) == [tokenizer.decode([a, b])]


def test_sampling_follows_the_task_s_settings(ours):
    def sample(seed: int, **settings) -> list[str]:
        torch.manual_seed(seed)
        return answers(ours, {"until": ["\n\n"], "max_gen_toks": 12} | settings)

    greedy = sample(0)
    assert greedy == sample(1) == sample(0, do_sample=False, temperature=0.7)
    hot = sample(0, do_sample=True, temperature=1.5)
    assert hot == sample(0, temperature=1.5) != sample(1, temperature=1.5) and hot != greedy
    assert sample(0, do_sample=True, temperature=1.5, top_k=1) == greedy == sample(0, temperature=1.5, top_p=1e-9)


# --- tasks ----------------------------------------------------------------------------------------------------------

QUESTIONS = [
    {
        "question": f"{line[:30].rsplit(' ', 1)[0]}",
        "choices": [" the fox", " a hen", " bread and butter"],
        "gold": i % 3,
    }
    for i, line in enumerate(LINES)
]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    """A folder with three tasks of the three kinds, and their data as JSON lines."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    (folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": line[:70].strip()}) for line in LINES))
    shared = {"dataset_path": "json", "test_split": "test"}

    def metrics(*names: str) -> list[dict]:
        return [{"metric": name} for name in names]

    def data(file: str) -> dict:
        return {"data_files": {"test": str(folder / file)}, "cache_dir": str(folder / "cache")}

    described = {
        "village_choice": {
            "output_type": "multiple_choice",
            "dataset_kwargs": data("questions.jsonl"),
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{gold}}",
            "target_delimiter": "",
            "metric_list": metrics("acc", "acc_norm"),
        },
        "village_answer": {
            "output_type": "generate_until",
            "dataset_kwargs": data("questions.jsonl"),
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{choices[gold]}}",
            "generation_kwargs": {"until": ["."], "max_gen_toks": 8},
            "metric_list": metrics("exact_match"),
        },
        "village_text": {
            "output_type": "loglikelihood_rolling",
            "dataset_kwargs": data("texts.jsonl"),
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": metrics("word_perplexity", "byte_perplexity", "bits_per_byte"),
        },
    }
    for name, task in described.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name} | shared | task))
    return folder


@pytest.fixture(scope="module")
def results(ours, tasks) -> dict:
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    names = ["village_choice", "village_answer", "village_text"]
    return simple_evaluate(model=ours, tasks=names, task_manager=manager, bootstrap_iters=0, log_samples=True)


def test_multiple_choice_is_that_of_our_evaluation(results, model, tokenizer):
    plain, by_length = [], []
    samples = sorted(results["samples"]["village_choice"], key=lambda sample: sample["doc_id"])
    assert len(samples) == len(QUESTIONS) > 10
    for row, sample in zip(QUESTIONS, samples, strict=True):
        choice = multiple_choice(model, tokenizer, row["question"], row["choices"])
        scores = [float(response[0][0]) for response in sample["resps"]]
        assert scores == pytest.approx(choice.scores, abs=1e-4)
        plain.append(choice.best == row["gold"])
        by_length.append(
            multiple_choice(model, tokenizer, row["question"], row["choices"], "bytes").best == row["gold"]
        )
    found = results["results"]["village_choice"]
    assert plain != by_length
    assert found["acc,none"] == pytest.approx(sum(plain) / len(plain))
    assert found["acc_norm,none"] == pytest.approx(sum(by_length) / len(by_length))


def test_bits_per_byte_are_those_of_our_evaluation(results, model, tokenizer):
    texts = [line[:70].strip() for line in LINES]
    found, expected = results["results"]["village_text"], bits_per_byte(model, tokenizer, texts)
    assert found["bits_per_byte,none"] == pytest.approx(expected, rel=1e-5)
    assert found["byte_perplexity,none"] == pytest.approx(2**expected, rel=1e-5)
    nats = expected * math.log(2) * sum(len(text.encode()) for text in texts)
    words = sum(len(text.split()) for text in texts)
    assert math.log(found["word_perplexity,none"]) == pytest.approx(nats / words, rel=1e-5)


def test_answers_are_those_of_generate(results, model, tokenizer):
    samples = sorted(results["samples"]["village_answer"], key=lambda sample: sample["doc_id"])
    for row, sample in zip(QUESTIONS, samples, strict=True):
        prompt = tokenizer.encode(row["question"], bos=True)
        (said,) = generate(model, [prompt], 8, temperature=0, stop_tokens=(tokenizer.eos_id,))
        assert sample["resps"] == [[tokenizer.decode(said.tokens).split(".")[0]]]


def test_from_the_shell_with_the_model_s_files(results, model, tokenizer, tasks, tmp_path):
    save_safetensors(model, tmp_path / "model.safetensors")
    tokenizer.save(tmp_path / "tokenizer.model")
    code = """if True:
        import functools, runpy, lm_eval.tasks as tasks
        init = tasks.TaskManager.__init__  # without the harness's thousands of tasks, which take half a minute to list
        tasks.TaskManager.__init__ = functools.partialmethod(init, include_defaults=False)
        runpy.run_module("minillama.pretraining.harness", run_name="__main__", alter_sys=True)"""
    command = [sys.executable, "-c", code, "run", "--model", "minillama", "--batch_size", "4", "--model_args"]
    command += [f"model={tmp_path}/model.safetensors,tokenizer={tmp_path}/tokenizer.model"]
    command += ["--tasks", "village_choice", "--include_path", str(tasks), "--output_path", str(tmp_path / "out")]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = (tmp_path / "out").rglob("results_*.json")
    written, expected = json.loads(file.read_text())["results"]["village_choice"], results["results"]["village_choice"]
    for name in ("acc,none", "acc_norm,none"):
        assert written[name] == pytest.approx(expected[name])


# --- errors ---------------------------------------------------------------------------------------------------------


def test_the_harness_knows_the_adapter_by_name():
    assert get_model("minillama") is MinillamaLM


def test_without_the_harness_the_error_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "minillama.pretraining.harness")
    importlib.import_module("minillama.pretraining.evaluation")
    with pytest.raises(ImportError, match=r'pip install "minillama\[parity\]"'):
        importlib.import_module("minillama.pretraining.harness")


def test_the_rest_of_the_library_does_not_import_the_harness():
    code = "import sys, pkgutil, minillama.pretraining as p\nfor m in pkgutil.iter_modules(p.__path__):\n"
    code += "    if m.name != 'harness': __import__(f'minillama.pretraining.{m.name}')\n"
    code += "sys.exit('lm_eval' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("batch_size", [0, -2, "auto", 1.5])
def test_a_batch_size_is_a_number(model, tokenizer, batch_size):
    with pytest.raises(ValueError, match=f"positive whole number, got {batch_size!r}"):
        MinillamaLM(model, tokenizer, batch_size)


def test_a_tokenizer_of_another_model_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="401 pieces and the model knows 400"):
        MinillamaLM(model, tokenizer.with_control_pieces(["<more>"]))


def test_continuations_that_cannot_be_scored_are_refused(ours, tokenizer):
    merged = ("The hen saw the ba", "ker")
    whole, alone = (len(tokenizer.encode(text)) for text in (merged[0] + merged[1], merged[0]))
    assert whole <= alone
    for pair in (merged, ("The hen", "")):
        with pytest.raises(ValueError, match=f"no token of {pair[1]!r} is left behind {pair[0]!r}"):
            ours.loglikelihood(requests("loglikelihood", [pair]), disable_tqdm=True)
    with pytest.raises(ValueError, match="max_seq_len is 48: shorten it"):
        ours.loglikelihood(requests("loglikelihood", [("The hen", LINES[0] * 3)]), disable_tqdm=True)


def test_generation_settings_that_cannot_be_followed_are_refused(ours):
    with pytest.raises(ValueError, match=r"\['num_beams'\] is not supported"):
        answers(ours, {"until": [], "num_beams": 4})
    for count in (48, 0, -1):
        with pytest.raises(ValueError, match=f"max_gen_toks is {count} and the model's max_seq_len is 48"):
            answers(ours, {"until": [], "max_gen_toks": count})
    assert ours.max_gen_toks == 24 and answers(ours, {"until": []}, ["The hen"])
