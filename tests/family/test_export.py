"""Exports, read back by our readers bit for bit, by `transformers` and `gguf`, and by an independent reader here."""

import json
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from minillama import data_path
from minillama.alignment.chat import encode_prompt
from minillama.family import gguf_file
from minillama.family.export import export_hf, export_llama2c
from minillama.family.gguf_file import KINDS, OLLAMA_TEMPLATE, export_gguf, gguf_name, ollama_modelfile
from minillama.family.quantization import quantize
from minillama.family.tokenizer_json import tokenizer_json
from minillama.model.bpe import CONTROL
from minillama.model.checkpoints import load_hf, load_llama2c
from minillama.model.config import ModelConfig
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

TINY = ModelConfig(
    dim=64, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=2048, hidden_dim=96, max_seq_len=48, norm_eps=1e-5
)
TEXTS = [
    "Mara lives at the mill.", " two  spaces   three ", "\ttab\nline\r\n", "h\u00e9llo \u6f22\u5b57 \U0001f642", "",
    "x", " ", "   ", "12345 67.8", "\u2581under \u2581", "a\x00b", "\ufffd\u200d", "[INST] hi [/INST] <<SYS>>",
    "<0x0A><0xFF>", "Tomato" * 9, "e\u0301", "\U0010ffff",
]  # fmt: skip
DIALOGUE = [
    {"role": "system", "content": " Be kind. "},
    {"role": "user", "content": "Who?\n"},
    {"role": "assistant", "content": "Mara."},
    {"role": "user", "content": "Where?"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(data_path("tokenizer.model"))


def lively(config: ModelConfig = TINY, dtype=torch.float32) -> Llama:
    model = Llama(config, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.dim() == 2 else 1)
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(2))
    return model.to(dtype).eval()


def equal(a: Llama, b: Llama) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(
        torch.equal(ours[k], theirs[k]) and ours[k].dtype == theirs[k].dtype for k in ours
    )


WRITERS = {
    "hf": lambda m, t, p, **o: export_hf(m, t, p, **o),
    "llama2c": lambda m, t, p, **o: export_llama2c(m, t, p, **o),
    "gguf": lambda m, t, p, **o: export_gguf(m, t, p, **o),
}


@pytest.fixture(params=WRITERS)
def write(request):
    if request.param == "gguf":
        pytest.importorskip("gguf", reason="the parity extra is not installed")
    return WRITERS[request.param]


# --- Hugging Face


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("theta, eps", [(10_000.0, 1e-5), (1e6, 1e-6)])
def test_hf_read_back_bit_for_bit(tmp_path, tokenizer, dtype, theta, eps):
    model = lively(replace(TINY, rope_theta=theta, norm_eps=eps), dtype)
    folder = export_hf(model, tokenizer, tmp_path / "hf")
    back = load_hf(folder)
    assert equal(model, back) and back.config == replace(model.config, hidden_dim=96)
    assert sorted(f.name for f in folder.iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer.model",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert Tokenizer.from_file(folder / "tokenizer.model").vocabulary.pieces == tokenizer.vocabulary.pieces
    assert not list(tmp_path.glob(".*"))


def test_hf_can_change_the_type(tmp_path, tokenizer):
    folder = export_hf(lively(), tokenizer, tmp_path / "half", torch.float16)
    assert equal(load_hf(folder), lively().half())
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "float16"


@torch.no_grad()
@pytest.mark.parametrize(
    "config", [TINY, replace(TINY, n_kv_heads=4, rope_theta=1e6, norm_eps=1e-6), replace(TINY, n_kv_heads=1)]
)
def test_transformers_gives_the_same_logits(tmp_path, tokenizer, config):
    transformers = pytest.importorskip("transformers", reason="the parity extra is not installed")
    model = lively(config)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        export_hf(model, tokenizer, tmp_path / "hf"), dtype=torch.float32
    )
    tokens = torch.randint(2048, (3, 40), generator=torch.Generator().manual_seed(1))
    expected = model(tokens)
    assert expected.std() > 0.3 and (theirs(tokens).logits - expected).abs().max() < 1e-4
    settings = theirs.generation_config
    assert (settings.bos_token_id, settings.eos_token_id, settings.temperature, settings.top_p) == (1, 2, 0.6, 0.9)


def test_transformers_gives_the_same_ids(tmp_path, tokenizer):
    transformers = pytest.importorskip("transformers", reason="the parity extra is not installed")
    theirs = transformers.AutoTokenizer.from_pretrained(export_hf(lively(), tokenizer, tmp_path / "hf", chat=True))
    for text in TEXTS:
        ids = tokenizer.encode(text, bos=True)
        assert theirs(text)["input_ids"] == ids, text
        assert theirs.decode(ids[1:], clean_up_tokenization_spaces=False) == tokenizer.decode(ids), text
    # what the other side does by default, and the switch against it
    assert theirs("a </s>")["input_ids"][-1] == tokenizer.eos_id
    assert theirs("a </s>", split_special_tokens=True)["input_ids"] == tokenizer.encode("a </s>", bos=True)
    for messages in (DIALOGUE, DIALOGUE[1:], DIALOGUE[:2], [{"role": "system", "content": "  "}, *DIALOGUE[1:]]):
        ids = theirs.apply_chat_template(messages, return_dict=False)
        assert list(ids) == encode_prompt(tokenizer, messages)
    with pytest.raises(Exception, match="take turns"):
        theirs.apply_chat_template(DIALOGUE[1:2] * 2)


def test_the_chat_template_is_stored_for_chat_models_only(tmp_path, tokenizer):
    export_hf(lively(), tokenizer, tmp_path / "base")
    assert "chat_template" not in json.loads((tmp_path / "base" / "tokenizer_config.json").read_text())


def test_control_pieces_of_a_grown_vocabulary_are_special(tokenizer):
    grown = tokenizer.with_control_pieces(["\u2581<PRE>", "\u2581<EOT>"])
    content = tokenizer_json(grown)
    assert [(a["id"], a["content"]) for a in content["added_tokens"]][-2:] == [
        (2048, "\u2581<PRE>"),
        (2049, "\u2581<EOT>"),
    ]
    spaced = Tokenizer(replace(tokenizer.vocabulary, remove_extra_whitespaces=True))
    with pytest.raises(ValueError, match="removes extra spaces"):
        tokenizer_json(spaced)


# --- llama2.c


@pytest.mark.parametrize("config", [TINY, replace(TINY, n_kv_heads=4), replace(TINY, n_layers=1, n_kv_heads=1)])
def test_llama2c_read_back_bit_for_bit(tmp_path, tokenizer, config):
    model = lively(config)
    folder = export_llama2c(model, tokenizer, tmp_path / "c")
    assert equal(model, load_llama2c(folder / "model.bin"))
    half = lively(config, torch.bfloat16)
    export_llama2c(half, tokenizer, tmp_path / "half")
    assert equal(half.float(), load_llama2c(tmp_path / "half" / "model.bin"))


def test_llama2c_as_the_program_reads_it(tmp_path, tokenizer):
    """The pointer arithmetic of run.c's `memory_map_weights`, written out for a head of its own."""
    model = lively()
    data = (export_llama2c(model, tokenizer, tmp_path / "c") / "model.bin").read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, length = struct.unpack_from("<7i", data)
    assert (dim, hidden, layers, heads, kv_heads, vocab, length) == (64, 96, 2, 4, 2, -2048, 48)
    vocab, size, at = abs(vocab), dim // heads, 28
    taken = {}
    for name, count in [
        ("tok_embeddings", vocab * dim), ("attention_norm", layers * dim), ("wq", layers * dim * heads * size),
        ("wk", layers * dim * kv_heads * size), ("wv", layers * dim * kv_heads * size),
        ("wo", layers * heads * size * dim), ("ffn_norm", layers * dim), ("w1", layers * dim * hidden),
        ("w2", layers * hidden * dim), ("w3", layers * dim * hidden), ("norm", dim), ("rope", length * size),
        ("output", vocab * dim),
    ]:  # fmt: skip
        taken[name] = np.frombuffer(data, "<f4", count, at)
        at += 4 * count
    assert at == len(data)
    state = model.state_dict()
    for name, values in taken.items():
        stacked = [tensor.flatten() for key, tensor in state.items() if f".{name}." in f".{key}"]
        if name == "norm":
            stacked = [state["norm.weight"]]
        if name != "rope":
            assert np.array_equal(values, torch.cat(stacked).numpy()), name
    assert taken["rope"][0] == 1 and taken["rope"][length * size // 2] == 0  # cos 0, then sin 0
    assert taken["rope"][size // 2] == pytest.approx(math.cos(1))


def test_llama2c_tokenizer_file(tmp_path, tokenizer):
    data = (export_llama2c(lively(), tokenizer, tmp_path / "c") / "tokenizer.bin").read_bytes()
    (longest,), at, found = struct.unpack_from("<i", data), 4, []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        found.append((score, data[at + 8 : at + 8 + length].decode()))
        at += 8 + length
    assert len(found) == 2048 and longest == max(len(text.encode()) for _, text in found)
    assert found[1] == (0.0, "\n<s>\n") and found[2][1] == "\n</s>\n" and found[3][1] == "<0x00>"
    assert found[259] == (0.0, " t") and found[260] == (-1.0, "he")
    # nothing typed can become a control token: its text can only be built of pieces that join into it
    texts = {text for _, text in found}
    for control in (found[1][1], found[2][1]):
        assert not any(control[:cut] in texts and control[cut:] in texts for cut in range(1, len(control)))


@pytest.mark.parametrize(
    "change, message", [({"norm_eps": 1e-6}, "norm_eps is 1e-06"), ({"rope_theta": 1e6}, "rope_theta")]
)
def test_llama2c_refuses_what_the_program_cannot_be_told(tmp_path, tokenizer, change, message):
    with pytest.raises(ValueError, match=message):
        export_llama2c(lively(replace(TINY, **change)), tokenizer, tmp_path / "c")
    assert not list(tmp_path.iterdir())


# --- GGUF


def text_of(field) -> str:
    return bytes(field.parts[field.data[0]]).decode()


@pytest.mark.parametrize("kind", KINDS)
def test_gguf_read_back(tmp_path, tokenizer, kind):
    gguf = pytest.importorskip("gguf", reason="the parity extra is not installed")
    model = lively(replace(TINY, rope_theta=1e6, norm_eps=1e-6))
    reader = gguf.GGUFReader(export_gguf(model, tokenizer, tmp_path / "m.gguf", kind, chat=True, name="mine"))
    found = {tensor.name: tensor for tensor in reader.tensors}
    state = model.state_dict()
    assert sorted(found) == sorted(map(gguf_name, state))
    for name, weight in state.items():
        tensor = found[gguf_name(name)]
        assert tensor.tensor_type.name == (kind if weight.dim() == 2 else "F32")
        assert tuple(reversed(tensor.shape.tolist())) == tuple(weight.shape)
        back = torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        if kind == "Q8_0" and weight.dim() == 2:  # blocks of 32, q and k in Meta's order
            step = weight.view(len(weight), -1, 32).abs().amax(-1, keepdim=True) / 127
            error = (back - weight).view(len(weight), -1, 32).abs()
            assert (error <= step * 0.5 + 127 * step * 2**-11 + 1e-9).all() and error.max() > 0
        else:
            dtype = {"F16": torch.float16, "BF16": torch.bfloat16}.get(tensor.tensor_type.name, torch.float32)
            assert torch.equal(back, weight.to(dtype).float())
    values = {name: field.contents() for name, field in reader.fields.items()}
    expected = {
        "general.architecture": "llama", "general.name": "mine", "llama.block_count": 2, "llama.context_length": 48,
        "llama.embedding_length": 64, "llama.feed_forward_length": 96, "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2, "llama.rope.dimension_count": 16, "llama.rope.freq_base": 1e6,
        "llama.vocab_size": 2048, "tokenizer.ggml.model": "llama", "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False, "tokenizer.ggml.add_space_prefix": True,
        "general.file_type": {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7}[kind],
    }  # fmt: skip
    assert {name: values[name] for name in expected} == expected
    assert values["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert "[INST]" in values["tokenizer.chat_template"]
    pieces = tokenizer.vocabulary.pieces
    assert values["tokenizer.ggml.tokens"] == [piece.text for piece in pieces]
    assert values["tokenizer.ggml.scores"] == [piece.score for piece in pieces]
    assert values["tokenizer.ggml.token_type"] == [piece.kind for piece in pieces]
    assert values["tokenizer.ggml.token_type"][:3] == [2, CONTROL, CONTROL]


def test_gguf_keeps_float16_where_blocks_do_not_fit(tmp_path, tokenizer):
    gguf = pytest.importorskip("gguf", reason="the parity extra is not installed")
    model = lively(replace(TINY, hidden_dim=72))
    reader = gguf.GGUFReader(export_gguf(model, tokenizer, tmp_path / "m.gguf", "Q8_0"))
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16" and kinds["blk.0.ffn_up.weight"] == "Q8_0"
    assert "tokenizer.chat_template" not in reader.fields


def test_gguf_refuses(tmp_path, tokenizer, monkeypatch):
    pytest.importorskip("gguf", reason="the parity extra is not installed")
    with pytest.raises(ValueError, match=r"kind must be one of .*'Q4_K'.*llama-quantize"):
        export_gguf(lively(), tokenizer, tmp_path / "m.gguf", "Q4_K")
    model = lively()
    model.layers[0].attention.wq.weight.data[0, 0] = 1e5
    with pytest.raises(ValueError, match=r"wq.weight holds 100000, beyond float16"):
        export_gguf(model, tokenizer, tmp_path / "m.gguf", "F16")
    assert not list(tmp_path.iterdir())
    export_gguf(model, tokenizer, tmp_path / "m.gguf", "BF16")
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(ImportError, match="pip install gguf"):
        export_gguf(model, tokenizer, tmp_path / "n.gguf")


# --- Ollama


def rendered(messages: list[dict]) -> str:
    """What Go makes of our template, worked out by hand from its rules; the template itself is pinned below."""
    system = "".join(m["content"] for m in messages if m["role"] == "system")
    text, first = "", True
    for message in messages:
        if message["role"] == "user":
            text += "" if first else "<s>"
            text += "[INST] " + (f"<<SYS>>\n{system}\n<</SYS>>\n\n" if first and system else "")
            text += message["content"] + " [/INST]"
            first = False
        elif message["role"] == "assistant":
            text += f" {message['content']} </s>"
    return text


def go(template: str, messages: list[dict]) -> str:
    """A Go template of the few constructs that ours has: range over .Messages, if / else if / end, variables."""
    import re

    system = "".join(m["content"] for m in messages if m["role"] == "system")
    tokens = re.split(r"(\{\{.*?\}\})", re.sub(r"\s*\{\{-", "{{", template))
    variables: dict[str, bool] = {}

    def value(word: str, message: dict):
        constant = {"true": True, "false": False, ".Role": message.get("role"), ".Content": message.get("content")}
        return {**constant, **variables, "$.System": system}[word]

    def test(words: list[str], message: dict) -> bool:
        if words[0] == "eq":
            return value(words[1], message) == words[2].strip('"')
        if words[0] == "not":
            return not value(words[1], message)
        if words[0] == "and":
            return all(value(word, message) for word in words[1:])
        raise AssertionError(words)

    def run(at: int, message: dict, live: bool) -> tuple[int, str]:
        text = ""
        while at < len(tokens):
            token = tokens[at]
            if not token.startswith("{{"):
                text, at = text + (token if live else ""), at + 1
                continue
            words = token[2:-2].split()
            if words[0] in ("end", "else"):
                return at, text
            if words[0] == "range":
                for one in messages:
                    end, part = run(at + 1, one, live)
                    text += part
                at = end + 1
            elif words[0] == "if":
                done, condition = False, words[1:]
                while True:
                    hit = live and not done and test(condition, message)
                    at, part = run(at + 1, message, hit)
                    text, done = text + part, done or hit
                    after = tokens[at][2:-2].split()
                    if after[0] == "end":
                        break
                    condition = after[2:]  # else if
                at += 1
            elif words[0].startswith("$") and words[1:2] and words[1] in (":=", "="):
                if live:
                    variables[words[0]] = value(words[2], message)
                at += 1
            else:
                text, at = text + (value(words[0], message) if live else ""), at + 1
        return at, text

    return run(0, {}, True)[1]


def test_ollama_template_is_that_of_chapter_12(tokenizer):
    stripped = [{**m, "content": m["content"].strip()} for m in DIALOGUE]
    for messages in (stripped, stripped[1:], stripped[:2], stripped[1:2]):
        text = go(OLLAMA_TEMPLATE, messages)
        assert text == rendered(messages)
        ids = []  # as llama.cpp reads it: BOS in front, and control tokens where the template writes them
        for number, turn in enumerate(text.split("<s>")):
            said, *rest = turn.split("</s>")
            ids += [tokenizer.bos_id, *tokenizer.encode(said)] + [tokenizer.eos_id] * bool(rest)
            assert number == 0 or turn.startswith("[INST]")
        assert ids == encode_prompt(tokenizer, messages)
    assert not OLLAMA_TEMPLATE.startswith("<s>")  # the program adds BOS: two of them would spoil the answers


def test_ollama_modelfile_as_text():
    text = ollama_modelfile("./m.gguf", 512, system="Be kind.")
    lines = text.splitlines()
    assert lines[0] == "FROM ./m.gguf" and lines[-1] == 'SYSTEM """Be kind."""'
    assert f'TEMPLATE """{OLLAMA_TEMPLATE}"""' in text and "PARAMETER num_ctx 512" in lines
    for stop in ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "</s>"):
        assert f'PARAMETER stop "{stop}"' in lines
    assert "SYSTEM" not in ollama_modelfile("m.gguf", 512).replace("<<SYS", "").splitlines()[-1]
    for path, system in (("a\nb", ""), (" ", ""), ("m.gguf", 'say """ now')):
        with pytest.raises(ValueError, match="no triple quotes"):
            ollama_modelfile(path, 512, system)


# --- all of them


def test_pairs_that_do_not_belong_together_are_refused(tmp_path, tokenizer, write):
    for config, message in [
        (replace(TINY, vocab_size=2049), "2048 pieces, the model 2049 ids"),
        (replace(TINY, n_outputs=1), "n_outputs is 1: a reward model"),
    ]:
        with pytest.raises(ValueError, match=message):
            write(lively(config), tokenizer, tmp_path / "x")
    with pytest.raises(ValueError, match="export the model before it is quantized"):
        write(quantize(lively(), 8), tokenizer, tmp_path / "x")
    broken = lively()
    broken.norm.weight.data[3] = math.nan
    with pytest.raises(ValueError, match="norm.weight holds NaN"):
        write(broken, tokenizer, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_without_being_told(tmp_path, tokenizer, write):
    target = tmp_path / "x"
    write(lively(), tokenizer, target)
    files = {file: file.read_bytes() for file in ([target] if target.is_file() else sorted(target.iterdir()))}
    other = lively()
    other.norm.weight.data.mul_(2)
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        write(other, tokenizer, target)
    assert {file: file.read_bytes() for file in files} == files
    write(other, tokenizer, target, overwrite=True)
    assert {file: file.read_bytes() for file in files} != files


def test_a_crash_leaves_what_was_there(tmp_path, tokenizer, write, monkeypatch):
    def crash(*_, **__):
        raise OSError("disk full")

    target = tmp_path / "x"
    for module in ("minillama.family.export", "minillama.family.gguf_file"):
        monkeypatch.setattr(f"{module}.os.fsync", crash)
    with pytest.raises(OSError, match="disk full"):
        write(lively(), tokenizer, target)
    assert not target.exists() or not list(target.iterdir())
    assert not list(tmp_path.glob(".*"))


def test_a_folder_is_no_file_and_foreign_files_stay(tmp_path, tokenizer):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        export_hf(lively(), tokenizer, tmp_path / "file", overwrite=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        export_hf(lively(), tokenizer, tmp_path / "folder")
    export_hf(lively(), tokenizer, tmp_path / "folder", overwrite=True)
    assert (tmp_path / "folder" / "notes.txt").read_text() == "mine"


def test_names_cover_all_tensors():
    names = [gguf_name(name) for name in Llama(TINY).state_dict()]
    assert len(set(names)) == len(names) and "blk.1.ffn_gate.weight" in names and "output_norm.weight" in names
    assert gguf_file.KINDS == ("F32", "F16", "BF16", "Q8_0")
