"""Real weights within a laptop's memory (chapter 22).

A checkpoint is opened, not read: its files are mapped, and every matrix is looked at once, on its own. It either stays
in the file, or is rounded to 8 or 4 bits, or converted; what was read is then forgotten. So the peak is the result and
one matrix, not the result and the file.

Does: Llama 1, 2, Code Llama and derived models of any size, in Meta's format (any number of shards), Hugging Face's
    (single or sharded), llama2.c's and our own; as in the file (mapped), bfloat16, float16, float32, int8, int4; a
    refusal with advice where the memory does not suffice; the tokenizer; a fingerprint to compare machines by.
Does not: look for NaN in mapped weights unless asked (it would read them all; rounding to 8 or 4 bits does look), read
    GGUF, train.
Source: the formats as in chapter 6; the layers of `minillama.family.mapped` and `minillama.family.quantization`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from minillama.family.convert import tokenizer_places
from minillama.family.estimate import PRECISIONS, estimate, refuse
from minillama.family.mapped import HalfSplitLinear, PiecesEmbedding, PiecesLinear
from minillama.family.quantization import Int4Linear, Int8Linear
from minillama.model.assembly import CheckpointError, Piece, check_pieces, check_table, join, skeleton
from minillama.model.checkpoints import load_llama2c, load_safetensors, read_hf, read_meta, rotated_heads
from minillama.model.config import ModelConfig
from minillama.model.rope import permute_to_meta
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

# What Llama 2's tokenizer makes of some texts (measured on the published file); Code Llama's agrees on all of them.
GOLDEN = {
    "Hello world": [15043, 3186],
    "12345": [29871, 29896, 29906, 29941, 29946, 29945],
    "  two spaces": [259, 1023, 8162],
    "a\nb": [263, 13, 29890],
    "Ol\u00e1, mundo!": [7137, 29976, 29892, 13864, 29991],
    "\N{LLAMA}": [29871, 243, 162, 169, 156],
    "[INST]": [518, 25580, 29962],
    "<<SYS>>\n": [3532, 14816, 29903, 6778, 13],
}
CODE_LLAMA_CONTEXT = 16_384  # trained length (Roziere et al. 2023, section 2.4); Meta's files do not record any


Opened = tuple[ModelConfig, dict[str, list[Piece]], bool]


def open_checkpoint(path: str | Path, max_seq_len: int | None = None) -> Opened:
    """Config and mapped tensors of a folder; reads a few kilobytes, whatever its size.

    Args:
        path: folder with Meta's `params.json` or Hugging Face's `config.json`, and the weights.
        max_seq_len: context length; None takes the file's, or where it has none 4,096 (Code Llama: 16,384).

    Returns:
        the config; Meta's parameter name to its pieces; whether wq and wk have Hugging Face's order.

    Raises:
        CheckpointError: if it is neither format, or both, or files are missing or damaged.
    """
    path = Path(path)
    meta, hf = (path / "params.json").exists(), (path / "config.json").exists()
    if meta and hf:
        raise CheckpointError(
            f"{path}: has params.json (Meta's format) and config.json (Hugging Face's); keep each in its own folder"
        )
    if hf:
        return *read_hf(path, max_seq_len), True
    if not meta:
        raise CheckpointError(
            f"{path}: {'no folder of that name' if not path.is_dir() else 'no params.json and no config.json'}; give "
            "the folder that holds one of them beside the weights (`minillama doctor` says which files a model needs)"
        )
    config, pieces = read_meta(path, max_seq_len)
    if config.rope_theta == 1e6 and max_seq_len is None:
        config, pieces = read_meta(path, CODE_LLAMA_CONTEXT)
    return config, pieces, False


def load(
    path: str | Path,
    precision: str = "file",
    max_seq_len: int | None = None,
    group: int | None = None,
    device: str | torch.device = "cpu",
    check_finite: bool = False,
    force: bool = False,
    progress: bool = True,
) -> Llama:
    """Load a model of the family, whatever the format and the size.

    Args:
        path: a folder (see `open_checkpoint`), a `.bin` file of llama2.c or a `.safetensors` file of ours.
        precision: "file" keeps the files' own numbers, mapped: nothing is copied on a CPU. "bfloat16", "float16" and
            "float32" do the same where the files have that type, else convert matrix by matrix. "int8" has one scale
            per row, "int4" scale and zero per group; embedding and norms are then bfloat16.
        max_seq_len: context length, see `open_checkpoint`.
        group: columns of a 4-bit group; None takes 64, or 32 where 64 does not divide a matrix's width.
        device: where the weights go; anything but the CPU is a copy.
        check_finite: look for NaN and infinity, which reads every weight. Rounding to 8 or 4 bits always looks.
        force: load also what by estimate does not fit.
        progress: show a bar where there is something to wait for.

    Returns:
        The model, in evaluation mode, without gradients. Mapped files must stay in place while it lives.

    Raises:
        CheckpointError: if files are missing, damaged or do not fit together.
        DoesNotFit: if the memory will not do; the message says what would.
        ValueError: for an unknown precision, or a group that does not divide.
    """
    path = Path(path)
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if path.is_file():
        config, pieces, half_split = _open_file(path, max_seq_len)
    else:
        config, pieces, half_split = open_checkpoint(path, max_seq_len)
    if group is None:
        group = 64 if config.dim % 64 == config.ffn_hidden % 64 == 0 else 32
    asked = getattr(torch, precision) if precision in ("bfloat16", "float16", "float32") else None
    model = skeleton(config)
    shapes = check_table(path, model, pieces, asked if asked or precision == "file" else torch.bfloat16)
    kind = pieces["output.weight"][0].data.dtype
    if not force and torch.device(device).type == "cpu":
        refuse(estimate(config, precision, group=group, file_dtype=kind))

    heads_of = {name: rotated_heads(config, name) if half_split else None for name in shapes}
    whole: dict[tuple[Path, str], nn.Parameter] = {}  # by place in the files, so that tied matrices stay one
    quiet = not progress or (precision == "file" and device == "cpu")
    for name, shape in tqdm(shapes.items(), "loading", unit=" tensors", disable=quiet):
        found, heads = pieces.pop(name), heads_of[name]
        axis = check_pieces(path, name, shape, found, check_finite)
        owner, _, _ = name.rpartition(".")
        matrix = isinstance(model.get_submodule(owner), nn.Linear)
        dtype = asked or (found[0].data.dtype if precision == "file" else torch.bfloat16)
        as_filed = all(piece.data.dtype == dtype for piece in found) and torch.device(device).type == "cpu"

        if matrix and precision in ("int8", "int4"):
            weight = _ordered(join(path, name, shape, found, False), heads)
            _replace(model, owner, _rounded(weight, precision, group, found[0]).to(device))
        elif axis is not None and as_filed:
            kept = [piece.data for piece in found]
            _replace(model, owner, PiecesLinear(kept, axis) if matrix else PiecesEmbedding(kept))
        elif heads is not None and as_filed:
            _replace(model, owner, HalfSplitLinear(found[0].data, heads))
        else:
            place = (found[0].file, found[0].key)
            if place not in whole:
                weight = _ordered(join(path, name, shape, found, False), heads)
                whole[place] = nn.Parameter(weight.to(device=device, dtype=dtype), requires_grad=False)
            model.get_submodule(owner).weight = whole[place]
    return model.eval()


def load_tokenizer(path: str | Path, model: Llama | None = None) -> Tokenizer:
    """The `tokenizer.model` of a checkpoint, from its folder or the one above (where Meta's download puts it).

    Args:
        path: the folder, or a weight file in it.
        model: the model it is for; their numbers of pieces must agree.

    Raises:
        CheckpointError: if there is none, it is damaged, or it belongs to another model.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    file = next((place for place in tokenizer_places(path) if place.is_file()), None)
    if file is None:
        raise CheckpointError(f"{folder}: no tokenizer.model here or one folder above; fetch it with the weights")
    try:
        tokenizer = Tokenizer.from_file(file)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{file}: not a SentencePiece model ({error}); fetch it again") from error
    if model is not None and tokenizer.vocab_size != model.config.vocab_size:
        raise CheckpointError(
            f"{file}: {tokenizer.vocab_size} pieces, but the model has {model.config.vocab_size} rows for them; the "
            "two belong to different models (Llama 2 has 32000, Code Llama 7B and 13B 32016)"
        )
    return tokenizer


def differences_from_llama2(tokenizer: Tokenizer) -> list[str]:
    """The texts of `GOLDEN` that a tokenizer encodes otherwise than Llama 2's; none if it is that one."""
    return [text for text, ids in GOLDEN.items() if tokenizer.encode(text) != ids]


@torch.inference_mode()
def fingerprint(model: Llama, tokens: Sequence[int], top: int = 5) -> list[tuple[int, float]]:
    """The most probable next tokens and their log-probabilities: enough to tell right weights from wrong ones.

    Args:
        model: the model.
        tokens: a fixed prompt, with BOS.
        top: how many.

    Returns:
        (id, natural log-probability), most probable first; equal ones by id.
    """
    logits = model(torch.tensor([list(tokens)], device=model.tok_embeddings.weight.device))[0, -1]
    logprobs = logits.double().log_softmax(-1)
    best = logprobs.argsort(descending=True, stable=True)[:top]
    return [(int(token), float(logprobs[token])) for token in best]


def _open_file(path: Path, max_seq_len: int | None) -> Opened:
    """As `open_checkpoint`, for a single file of llama2.c or ours, which their own readers check."""
    if path.suffix not in (".bin", ".safetensors"):
        raise CheckpointError(f"{path}: expected a folder, a .bin file of llama2.c or a .safetensors file of this book")
    model = (load_llama2c if path.suffix == ".bin" else load_safetensors)(path, check_finite=False)
    if max_seq_len is not None and max_seq_len > model.config.max_seq_len:
        raise ValueError(f"{path} is for {model.config.max_seq_len} tokens, got max_seq_len={max_seq_len}")
    pieces = {name: [Piece(path, name, weight)] for name, weight in model.state_dict().items()}
    return model.config, pieces, False


def _ordered(weight: Tensor, heads: int | None) -> Tensor:
    return weight if heads is None else permute_to_meta(weight, heads)


def _rounded(weight: Tensor, precision: str, group: int, piece: Piece) -> Int8Linear | Int4Linear:
    """One matrix in 8 or 4 bits; complaints name the file."""
    if precision == "int4" and weight.shape[1] % group:
        raise ValueError(f"group {group} does not divide the {weight.shape[1]} columns of {piece.key!r}; pass group=32")
    try:
        return Int8Linear.from_float(weight) if precision == "int8" else Int4Linear.from_float(weight, group)
    except ValueError as error:
        raise CheckpointError(f"{piece.file}: {piece.key!r}: {error}; fetch it again") from error


def _replace(model: Llama, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
