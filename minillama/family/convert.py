"""From any checkpoint that the book reads to any that it writes: `minillama convert` (chapter 21).

Does: find out what a path is (our safetensors, llama2.c, Meta's folder, Hugging Face's folder) and which tokenizer
    belongs to it; call the exporter.
Does not: quantize to 4 bits, for which llama.cpp's `llama-quantize` takes the file that is written here.
Source: the readers of `minillama.model.checkpoints`, the writers of `minillama.family.export` and `gguf_file`.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from minillama.family.export import export_hf, export_llama2c
from minillama.family.gguf_file import KINDS, export_gguf, ollama_modelfile
from minillama.model.checkpoints import load_hf, load_llama2c, load_meta, load_safetensors
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def load_any(source: str | Path) -> Llama:
    """Read a checkpoint of any format of chapter 6, told apart by the names of its files.

    Raises:
        ValueError: if the path is none of them, or damaged (`CheckpointError`).
    """
    source = Path(source)
    if source.is_file() and source.suffix in (".safetensors", ".bin"):
        return load_safetensors(source) if source.suffix == ".safetensors" else load_llama2c(source)
    if (source / "config.json").exists():
        return load_hf(source)
    if (source / "params.json").exists():
        return load_meta(source)
    raise ValueError(
        f"{source} is no checkpoint: expected a .safetensors file of ours, a .bin of llama2.c, or a folder with "
        "params.json (Meta) or config.json (Hugging Face)"
    )


def tokenizer_places(source: str | Path) -> list[Path]:
    """Where the tokenizer of a folder or weight file may lie: beside it, or one folder above (Meta's download)."""
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    return [place / "tokenizer.model" for place in (folder, folder.absolute().parent)]


def find_tokenizer(source: str | Path, named: str | Path | None = None) -> Tokenizer:
    """The tokenizer that was named, or the tokenizer.model in the source's folder or the folder above.

    Raises:
        ValueError: if there is none.
    """
    places = [Path(named)] if named else tokenizer_places(source)
    for place in places:
        if place.is_file():
            return Tokenizer.from_file(place)
    raise ValueError(f"no tokenizer: looked for {', '.join(map(str, places))}; name it with --tokenizer")


def convert(
    source: str | Path,
    to: str,
    out: str | Path,
    tokenizer: str | Path | None = None,
    kind: str | None = None,
    chat: bool = False,
    overwrite: bool = False,
) -> Iterator[str]:
    """Write a model for another program, and say what was written.

    Args:
        source: see `load_any`.
        to: "hf", "gguf" or "llama2c".
        out: folder, or file for gguf; a chat model's Modelfile for Ollama goes beside that.
        tokenizer: see `find_tokenizer`.
        kind: number type, one of `gguf_file.KINDS`; None is F16 for gguf and the model's own for hf.
        chat: also store the chat template.
        overwrite: replace what is there.

    Yields:
        Lines for people.

    Raises:
        ValueError, FileExistsError, ImportError: as the readers and writers.
    """
    if kind is not None and (kind not in (KINDS if to == "gguf" else TYPES) or to == "llama2c" and kind != "F32"):
        allowed = {"gguf": KINDS, "hf": tuple(TYPES), "llama2c": ("F32",)}[to]
        raise ValueError(f"--kind {kind} is not one of {allowed}, which {to} can hold")
    words, model, out = find_tokenizer(source, tokenizer), load_any(source), Path(out)
    if to == "hf":
        export_hf(model, words, out, TYPES.get(kind or ""), chat, overwrite)
        yield f'{out}: load it with AutoModelForCausalLM.from_pretrained("{out}")'
    elif to == "llama2c":
        export_llama2c(model, words, out, overwrite)
        yield f"{out}: run it with ./run {out}/model.bin -z {out}/tokenizer.bin"
    else:
        modelfile = out.with_name("Modelfile")
        if chat and modelfile.exists() and not overwrite:
            raise FileExistsError(f"{modelfile} exists; write to another folder, or pass --overwrite")
        export_gguf(model, words, out, kind or "F16", chat, out.stem, overwrite)
        yield f"{out}: run it with llama-cli -m {out}"
        if chat:
            modelfile.write_text(ollama_modelfile(f"./{out.name}", model.config.max_seq_len), encoding="utf-8")
            yield f"{modelfile}: ollama create {out.stem} -f {modelfile}"
