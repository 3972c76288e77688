"""The model's logits against two independent implementations, over configurations that differ in every number.

Against `transformers` in float32 the tolerance is 1e-4: both sum the same products in another order, and logits here
are of size 1 to 10 (float32 keeps 7 digits). Against the loops of `plain_llama`, all in float64, it is 1e-10.
"""

import pytest
import torch
from plain_llama import plain_llama, weights_of

from minillama.model.checkpoints import load_hf
from minillama.model.config import ModelConfig
from minillama.model.rope import permute_to_hf
from minillama.model.transformer import Llama

CASES = {  # name: (config, batch, length)
    "heads share nothing": (ModelConfig(64, 2, 4, 4, 97, 32, max_seq_len=64), 1, 17),
    "groups of 2, theta 1e6": (ModelConfig(96, 3, 6, 3, 64, 16, rope_theta=1e6, max_seq_len=64), 3, 29),
    "groups of 4, wide ffn": (ModelConfig(64, 2, 8, 2, 50, 64, ffn_dim_multiplier=1.3, max_seq_len=64), 2, 9),
    "groups of 8, eps 1e-6": (ModelConfig(128, 2, 16, 2, 41, 32, norm_eps=1e-6, max_seq_len=64), 2, 31),
    "one kv head, odd ffn": (ModelConfig(32, 4, 8, 1, 33, hidden_dim=51, max_seq_len=64), 5, 7),
    "one token": (ModelConfig(48, 1, 2, 1, 20, 8, rope_theta=1e6, max_seq_len=64), 4, 1),
    "one layer, long": (ModelConfig(40, 1, 5, 5, 29, 8, max_seq_len=64), 1, 63),
}


def lively_model(config: ModelConfig, seed: int = 0, dtype=torch.float32) -> Llama:
    """Weights large enough that every part of the block matters, and norms whose gains differ."""
    generator = torch.Generator().manual_seed(seed)
    model = Llama(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
        model.tok_embeddings.weight.mul_(config.dim**0.5)
    return model.eval()


def random_tokens(config: ModelConfig, batch: int, length: int):
    return torch.randint(config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))


def hf_model(model: Llama):
    """The same weights in `transformers`, with q and k permuted by hand."""
    transformers = pytest.importorskip("transformers", reason="the parity extra is not installed")
    config = model.config
    hf_config = transformers.LlamaConfig(
        hidden_size=config.dim,
        intermediate_size=config.ffn_hidden,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads,
        vocab_size=config.vocab_size,
        rms_norm_eps=config.norm_eps,
        max_position_embeddings=config.max_seq_len,
    )
    if hasattr(hf_config, "rope_parameters"):  # transformers 5
        hf_config.rope_parameters = {"rope_type": "default", "rope_theta": config.rope_theta}
    else:
        hf_config.rope_theta = config.rope_theta
    names = {"attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
             "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
             "feed_forward.w3": "mlp.up_proj", "attention_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm", "tok_embeddings": "embed_tokens"}  # fmt: skip
    state = {}
    for name, weight in model.state_dict().items():
        if "wq" in name:
            weight = permute_to_hf(weight, config.n_heads)
        if "wk" in name:
            weight = permute_to_hf(weight, config.n_kv_heads)
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state["lm_head.weight" if name == "output.weight" else f"model.{name}"] = weight
    theirs = transformers.LlamaForCausalLM(hf_config).eval()
    theirs.load_state_dict(state)
    return theirs


def largest_difference(a, b) -> float:
    return (a - b).abs().max().item()


@pytest.mark.parametrize("case", CASES)
def test_equal_to_the_equations_in_float64(case):
    config, batch, length = CASES[case]
    model = lively_model(config, dtype=torch.float64)
    tokens = random_tokens(config, batch, length)
    logits = model(tokens)
    assert logits.dtype == torch.float64
    expected = torch.stack([torch.tensor(plain_llama(weights_of(model), config, row)) for row in tokens.tolist()])
    assert expected.std() > 0.3  # a model that outputs nothing would pass anything
    assert largest_difference(logits, expected) < 1e-10


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_equal_to_transformers_in_float32(case):
    config, batch, length = CASES[case]
    model = lively_model(config)
    tokens = random_tokens(config, batch, length)
    expected = hf_model(model)(tokens).logits
    assert expected.std() > 0.3
    assert largest_difference(model(tokens), expected) < 1e-4


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shard_size", [None, "20KB"], ids=["single", "sharded"])
@torch.no_grad()
def test_equal_through_files_saved_by_transformers(case, shard_size, tmp_path):
    config, batch, length = CASES[case]
    theirs = hf_model(lively_model(config))
    theirs.save_pretrained(tmp_path, **({"max_shard_size": shard_size} if shard_size else {}))
    n_files = len(list(tmp_path.glob("*.safetensors")))
    assert n_files == 1 if shard_size is None else n_files > 1
    loaded = load_hf(tmp_path)
    assert loaded.config.rope_theta == config.rope_theta and loaded.config.norm_eps == config.norm_eps
    tokens = random_tokens(config, batch, length)
    assert largest_difference(loaded(tokens), theirs(tokens).logits) < 1e-4


@torch.no_grad()
def test_equal_through_files_with_a_tied_head(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the parity extra is not installed")
    torch.manual_seed(0)
    hf_config = transformers.LlamaConfig(hidden_size=32, intermediate_size=40, num_hidden_layers=2, vocab_size=30,
                                         num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
                                         initializer_range=0.3)  # fmt: skip
    theirs = transformers.LlamaForCausalLM(hf_config).eval()
    theirs.save_pretrained(tmp_path)
    loaded = load_hf(tmp_path)
    tokens = torch.arange(11)[None]
    assert largest_difference(loaded(tokens), theirs(tokens).logits) < 1e-4
    assert loaded.output.weight.data_ptr() != loaded.tok_embeddings.weight.data_ptr()


@torch.no_grad()
def test_without_the_permutation_the_logits_are_wrong():
    config, batch, length = CASES["groups of 2, theta 1e6"]
    model = lively_model(config)
    theirs = hf_model(model)
    for layer in range(config.n_layers):  # the Meta rows, straight into the Hugging Face model
        theirs.model.layers[layer].self_attn.q_proj.weight.copy_(model.layers[layer].attention.wq.weight)
        theirs.model.layers[layer].self_attn.k_proj.weight.copy_(model.layers[layer].attention.wk.weight)
    tokens = random_tokens(config, batch, length)
    difference = (theirs(tokens).logits - model(tokens)).abs().amax(dim=(0, 2))  # by position
    assert difference[0] < 1e-4  # position 0 is not rotated: a test on one token cannot see the mistake
    assert difference[1:].min() > 0.01
