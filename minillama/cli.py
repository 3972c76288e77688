"""The command line of minillama.

`minillama doctor` looks at this machine and says what a reader would miss: a package that is absent or too old, a data
file that is not there or not the one the book was made with. `minillama pretrain` trains a model from a corpus, in one
process or, under `torchrun`, in several. `minillama convert` writes a model for other programs,
`minillama generate` runs one from a folder, real weights too, and `minillama chat` talks with one.

Does: exit status 0 if all is well, 1 if not, 130 after Ctrl-C (while `pretrain` saves or `chat` answers: a second one).
Does not: install or repair anything.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from minillama import __version__, data_path

PRETRAIN_EXAMPLES = """examples:
  minillama pretrain --out runs/village --sample "Mara"
  minillama pretrain --out runs/mine --data texts/ --preset stories-15m --vocab-size 4096 --lr 1e-3 --steps 5000
  minillama pretrain --out runs/mine --resume
  torchrun --nproc-per-node 2 -m minillama pretrain --out runs/village --resume
"""


def version_numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, so that "2.13.0+cpu" compares as (2, 13, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", text.split("+")[0])[:3])


def check_packages() -> list[tuple[bool, str]]:
    """One (fine, line) for each package that the library needs, read from minillama's own metadata."""
    lines = []
    for requirement in importlib.metadata.requires("minillama") or []:
        if "extra ==" in requirement:
            continue
        name, minimum = re.match(r"([\w-]+).*?>=\s*([\d.]+)", requirement).groups()
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            lines.append((False, f"{name} is not installed: pip install '{name}>={minimum}'"))
            continue
        fine = version_numbers(version) >= version_numbers(minimum)
        lines.append(
            (fine, f"{name} {version}" if fine else f"{name} {version} is older than {minimum}: pip install -U {name}")
        )
    return lines


def check_data() -> list[tuple[bool, str]]:
    """One (fine, line) for each file of the data manifest."""
    try:
        manifest = json.loads(data_path("manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        return [(False, str(error))]
    lines = []
    for name, entry in manifest.items():
        try:
            digest = hashlib.sha256(data_path(name).read_bytes()).hexdigest()
        except FileNotFoundError as error:
            lines.append((False, str(error)))
            continue
        fine = digest == entry["sha256"]
        lines.append((fine, f"data/{name}" if fine else f"data/{name} is not the file of the manifest: restore it"))
    return lines


def about_real_weights() -> list[str]:
    """What this machine has and lacks for the real weights of chapter 22; nothing there is needed elsewhere."""
    from huggingface_hub import get_token  # only now: these are slow to import, and may be what is missing

    from minillama.family.estimate import GIB, available_memory, estimate
    from minillama.family.loading import load_tokenizer, open_checkpoint
    from minillama.model.config import PRESETS

    free, lines = available_memory(), []
    folder = os.environ.get("LLAMA_WEIGHTS")
    if not folder:
        lines.append("no weights: set LLAMA_WEIGHTS to the folder of a checkpoint (chapter 22 says where to get one)")
    else:
        try:
            config = open_checkpoint(folder)[0]
            load_tokenizer(folder)
            lines.append(f"LLAMA_WEIGHTS: {config.n_parameters() / 1e9:.2f} billion parameters in {folder}")
        except ValueError as error:
            lines.append(f"LLAMA_WEIGHTS: {error}")
    lines.append(
        "a token for the Hub is stored"
        if get_token()
        else "no token for the Hub: `hf auth login` (open models need none)"
    )
    disk = shutil.disk_usage(folder if folder and os.path.isdir(folder) else os.getcwd()).free
    lines.append(f"{disk / 1e9:.0f} GB of disk are free; a 7B model in one format needs 13.5 GB")
    lines.append(f"{free / GIB:.1f} GiB of memory are free; with 2,048 tokens this holds:")
    for name in ("llama-2-7b", "llama-2-13b", "llama-2-70b"):
        needs = {kind: estimate(PRESETS[name], kind).total for kind in ("bfloat16", "int8", "int4")}
        told = ", ".join(f"{kind} {'yes' if n <= free else 'no'} ({n / GIB:.1f} GiB)" for kind, n in needs.items())
        lines.append(f"  {name}: {told}")
    return lines


def doctor() -> int:
    """Print what is fine and what is missing; return the exit status."""
    lines = [(sys.version_info >= (3, 11), f"Python {platform.python_version()}, minillama {__version__}")]
    lines += check_packages() + check_data()
    for fine, line in lines:
        print(f"  {'ok     ' if fine else 'MISSING'} {line}")
    if all(fine for fine, _ in lines):
        import torch  # only now: it is slow to import, and may be what is missing

        device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores, no GPU"
        print(f"Everything is in place ({device}).\n\nFor the real weights (chapter 22), which nothing else needs:")
        for line in about_real_weights():
            print(f"  {line}")
        return 0
    print("Something is missing; the lines above say what to do.")
    return 1


def add_pretrain_options(parser: argparse.ArgumentParser) -> None:
    """The options of `minillama pretrain`, which are the fields of `Recipe` and the arguments of `pretrain`."""
    from minillama.pretraining.recipe import Recipe  # only now: torch is slow to import, and doctor must do without

    def option(group: argparse._ArgumentGroup, name: str, help: str, kind: type = int) -> None:
        default = getattr(Recipe, name, None)
        metavar = {str: "TEXT", int: "N", float: "X"}[kind]
        told = "" if default in (None, "") else f" (default: {default})"
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=help + told)

    run = parser.add_argument_group("the run")
    run.add_argument("--out", required=True, metavar="FOLDER", help="where everything goes")
    run.add_argument("--resume", action="store_true", help="go on with the run in --out, on any number of processes")
    option(run, "device", "cpu, cuda or mps (default: the GPU if there is one)", str)
    option(run, "until", "stop after this step; --resume goes on")
    option(run, "shards", "folder for token shards that several runs share (default: in --out)", str)
    data = parser.add_argument_group("text")
    option(
        data,
        "data",
        "village, tinystories (2.2 GB), tinystories-small (22.5 MB), or a text file or folder",
        str,
    )
    option(data, "documents", "number of the village's texts")
    option(data, "tokenizer", "a tokenizer.model, or train", str)
    option(data, "vocab_size", "pieces of a tokenizer that is trained (default: the preset's)")
    model = parser.add_argument_group("model")
    option(model, "preset", "shape of the model; an unknown one lists all", str)
    for name in ("dim", "layers", "heads", "kv_heads"):
        option(model, name, "another number than the preset's")
    training = parser.add_argument_group("training")
    option(training, "steps", "updates of the weights")
    option(training, "batch_size", "sequences per batch, over all processes")
    option(training, "context", "tokens per sequence")
    option(training, "accumulate", "batches per update")
    option(training, "lr", "highest learning rate", float)
    option(training, "warmup", "updates until it is reached (default: a tenth of the steps)")
    option(training, "dtype", "float32, or bfloat16 where the hardware has it", str)
    training.add_argument("--compile", action="store_true", help="use torch.compile; needs a C++ compiler")
    option(training, "seed", "of the first weights and of the order of the data")
    option(training, "save_every", "steps between checkpoints (default: a tenth of the steps)")
    option(training, "eval_every", "steps between looks at held-out text (default: a tenth of the steps)")
    option(training, "sample", "beginning of the text that the model continues at every look", str)


def pretrain(options: dict[str, Any]) -> int:
    """Run or go on with a run; return the exit status. Options that were not given are not in the dict."""
    from minillama.pretraining.pretrain import pretrain, read_recipe
    from minillama.pretraining.recipe import Recipe
    from minillama.pretraining.trainer import DivergenceError

    out, resume = options.pop("out"), options.pop("resume", False)
    here = {name: options.pop(name) for name in ("device", "until", "shards") if name in options}
    try:
        recipe = None if resume else Recipe(**options)
        if resume:
            started = asdict(read_recipe(out))
            for name, value in options.items():
                if value != started[name]:
                    raise ValueError(f"the run in {out} has {name} {started[name]!r}, got {value!r}; it cannot change")
        pretrain(out, recipe, **here)
    except (ValueError, OSError, DivergenceError) as error:
        print(f"minillama pretrain: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def add_convert_options(parser: argparse.ArgumentParser) -> None:
    """The options of `minillama convert`."""
    parser.add_argument("source", help="our .safetensors, llama2.c's .bin, or a folder of Meta or Hugging Face")
    parser.add_argument("--to", required=True, choices=("hf", "gguf", "llama2c"), help="for which program")
    parser.add_argument("--out", required=True, help="new folder, or new file for gguf")
    parser.add_argument("--tokenizer", help="the model's tokenizer.model (default: the one in the source folder)")
    parser.add_argument("--kind", help="number type: F32, F16, BF16; for gguf also Q8_0 (default: F16, hf: as it is)")
    parser.add_argument("--chat", action="store_true", help="also store Llama 2's chat template")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def convert(options: dict[str, Any]) -> int:
    """Write a checkpoint in another program's format; return the exit status."""
    from minillama.family.convert import convert  # only now: torch is slow to import

    try:
        for line in convert(**options):
            print(line)
    except (ValueError, OSError, ImportError) as error:
        print(f"minillama convert: {error}", file=sys.stderr)
        return 1
    return 0


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options of `generate` and of `chat`: how a model is loaded, and how it samples."""
    parser.add_argument("--precision", default="file", help="file (mapped), bfloat16, float16, float32, int8 or int4")
    parser.add_argument("--tokenizer", metavar="FILE", help="default: the tokenizer.model beside the weights")
    parser.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="an answer is cut there")
    parser.add_argument("--temperature", type=float, default=0.6, metavar="X", help="0 is greedy (default: 0.6)")
    parser.add_argument("--top-p", type=float, default=0.9, metavar="X", help="1 keeps all (default: 0.9)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--force", action="store_true", help="also if by estimate the memory will not do")


def load_pair(options: dict[str, Any]) -> tuple[Any, Any]:
    """The model and the tokenizer that the options of `add_model_options` and --weights name."""
    from minillama.family.loading import load, load_tokenizer  # only now: torch is slow to import
    from minillama.model.tokenizer import Tokenizer

    model = load(options["weights"], options["precision"], force=options["force"])
    own = options["tokenizer"]
    return model, Tokenizer.from_file(own) if own else load_tokenizer(options["weights"], model)


def add_generate_options(parser: argparse.ArgumentParser) -> None:
    """The options of `minillama generate`."""
    folder = os.environ.get("LLAMA_WEIGHTS")
    parser.add_argument("--weights", default=folder, required=not folder, metavar="FOLDER",
                        help="checkpoint of Meta or Hugging Face, or a file (default: $LLAMA_WEIGHTS)")  # fmt: skip
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    parser.add_argument("--chat", action="store_true", help="the prompt is a question to a chat model")
    parser.add_argument("--system", metavar="TEXT", help="a system message before it; only with --chat")
    add_model_options(parser)


def generate(options: dict[str, Any]) -> int:
    """Load a model and print how it continues or answers; return the exit status."""
    import torch  # only now: slow to import

    from minillama.alignment.chat import encode_prompt
    from minillama.model.generation import generate, stream_text

    try:
        if options["system"] is not None and not options["chat"]:
            raise ValueError("--system is for chat models; add --chat")
        model, tokenizer = load_pair(options)
        dice = torch.Generator().manual_seed(options["seed"])
        settings = {"temperature": options["temperature"], "top_p": options["top_p"], "generator": dice}
        if options["chat"]:
            system = [] if options["system"] is None else [{"role": "system", "content": options["system"]}]
            asked = encode_prompt(tokenizer, [*system, {"role": "user", "content": options["prompt"]}])
            stop = (tokenizer.eos_id,)
            answer = generate(model, [asked], options["max_new_tokens"], stop_tokens=stop, **settings)[0]
            print(tokenizer.decode(answer.tokens).strip())
        else:
            print(options["prompt"], end="", flush=True)
            for piece in stream_text(model, tokenizer, options["prompt"], options["max_new_tokens"], **settings):
                print(piece, end="", flush=True)
            print()
    except (ValueError, OSError) as error:
        print(f"minillama generate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


BOOK_MODELS = ("sft/model", "rlhf/v3", "rlhf/v4", "rlhf/v5", "gatt/before", "gatt/model")  # those that chat
CHAT_MODEL = "gatt/model"  # the last one of the book's line, and the one that keeps a system message (chapter 16)
CHAT_COMMANDS = """/system TEXT     another system message, for all turns; without TEXT: none
/temperature X   how much the answers vary; 0 is greedy
/undo            take back the last question and its answer
/reset           begin anew; system message and temperature stay
/help            these lines
/quit            leave; so does Ctrl-D. Ctrl-C stops an answer"""


def add_chat_options(parser: argparse.ArgumentParser) -> None:
    """The options of `minillama chat`."""
    parser.add_argument("--weights", default=CHAT_MODEL, metavar="PATH",
                        help="checkpoint of Meta or Hugging Face, a file, or a chat model of the book: "
                             f"{', '.join(BOOK_MODELS)} (default: {CHAT_MODEL})")  # fmt: skip
    parser.add_argument("--system", default="", metavar="TEXT", help="who to be, for the whole conversation")
    add_model_options(parser)


def chat(options: dict[str, Any]) -> int:
    """Talk with a model in the terminal, or with every line of a pipe as a turn; return the exit status.

    Answers go to stdout, all else to stderr, so that a pipe holds the answers alone.
    """
    from minillama.alignment.conversation import Conversation  # only now: torch is slow to import

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    weights, interactive = options["weights"], sys.stdin.isatty()
    try:
        ours = not os.path.exists(weights) and weights in BOOK_MODELS
        if ours:
            options["weights"] = data_path(f"{weights}.safetensors")
        model, tokenizer = load_pair(options)
        settings = {name: options[name] for name in ("system", "temperature", "top_p", "max_new_tokens", "seed")}
        talk = Conversation(model, tokenizer, **settings)
        note(f"{weights}: {model.config.n_parameters():,} parameters, reads up to {model.config.max_seq_len} tokens.")
        if ours:
            note("It was trained in this book and knows nothing but its village. Ask: Who is Mara?")
        if interactive:
            note("/help lists the commands, /quit leaves.")
        while (line := _next_line(interactive)) is not None and line != "/quit":
            try:
                if line.startswith("/"):
                    note(chat_command(talk, line))
                elif line:
                    answer(talk, line, note)
            except ValueError as error:  # of this turn; nothing has changed, and the next one may do
                note(f"minillama chat: {error}")
    except (ValueError, OSError) as error:
        note(f"minillama chat: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _next_line(interactive: bool) -> str | None:
    """What is said next, stripped; None at the end."""
    try:
        return input("> ").strip() if interactive else next(sys.stdin).strip()
    except (EOFError, StopIteration):
        return None


def answer(talk: Any, question: str, note: Callable[[str], None]) -> None:
    """Print a conversation's answer to a question as it comes, and note what the reader should know about it.

    Raises:
        ValueError: for a question that cannot be asked.
    """
    left_out = talk.left_out
    pieces = talk.ask(question)
    if talk.left_out > left_out:
        note(f"(the model no longer reads the oldest {talk.left_out} of these turns: together they are too long)")
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
        print(flush=True)
    except KeyboardInterrupt:
        print(flush=True)
        note("(stopped; what was said stays)")
        return
    if not talk.turns[-1][1]:
        note("(the model ended without a word)")
    elif not talk.ended:
        note("(cut: --max-new-tokens, or the model's context, ends there)")


def chat_command(talk: Any, line: str) -> str:
    """Do what a line such as "/temperature 0.2" says to a conversation; return what is to be told.

    Raises:
        ValueError: for an unknown command, or a value that cannot be.
    """
    command, _, value = line.partition(" ")
    value = value.strip()
    if command == "/system":
        talk.system = value
        return f"(system message: {value})" if value else "(no system message)"
    if command == "/temperature":
        try:
            talk.temperature = float(value)
        except ValueError as error:
            raise ValueError(f"/temperature wants a number of 0 or more, such as 0.6, got {value!r}") from error
        return f"(temperature {talk.temperature:g})"
    if command == "/undo":
        taken = talk.undo()
        return f"(taken back: {taken[0]})" if taken else "(nothing to take back)"
    if command == "/reset":
        talk.reset()
        return "(a new conversation)"
    if command == "/help":
        return CHAT_COMMANDS
    raise ValueError(f"no command {command}; /help lists them")


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `minillama`; None takes them from the command line.

    Returns:
        The exit status, 0 for success.
    """
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="minillama", description="Llama 2 from scratch: the library of the book.")
    parser.add_argument("--version", action="version", version=f"minillama {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("doctor", help="check packages and data, and say what is missing")
    training = commands.add_parser(
        "pretrain",
        help="train a model from a corpus",
        argument_default=argparse.SUPPRESS,
        epilog=PRETRAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if "pretrain" in words:
        add_pretrain_options(training)
    add_convert_options(commands.add_parser("convert", help="write a model for transformers, llama.cpp or llama2.c"))
    add_generate_options(commands.add_parser("generate", help="continue a text, or answer, with a model from a folder"))
    add_chat_options(commands.add_parser("chat", help="talk with the model that you trained, or with another one"))
    options = vars(parser.parse_args(words))
    run = {
        "doctor": doctor,
        "pretrain": lambda: pretrain(options),
        "convert": lambda: convert(options),
        "generate": lambda: generate(options),
        "chat": lambda: chat(options),
    }
    return run[options.pop("command")]()


if __name__ == "__main__":
    sys.exit(main())
