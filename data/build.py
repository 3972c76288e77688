"""Make what `data/` holds, from nothing, and write `manifest.json`: what each file is, its SHA-256 and its measures.

    python data/build.py                 # all that is missing, in order
    python data/build.py base            # one recipe and, before it, what it needs and is missing
    python data/build.py --again base    # the same, although its files are there
    python data/build.py manifest        # only hash what is there

A recipe that is stopped goes on where it was when it is started again. Unfinished work is kept in `_build/data/`.

Does: runs the recipes of `data/recipes/`, shows progress, hashes every file.
Does not: download anything.
"""

import argparse
import hashlib
import importlib
import json
import shutil
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent
sys.path[:0] = [str(DATA), str(DATA.parent)]
# in order: each may use what those before it made
RECIPES = (
    "tokenizer",
    "base",
    "two_minutes",
    "ablations",
    "ngrams",
    "memorisation",
    "scaling",
    "sft_quality",
    "alignment",
    "reward_models",
    "rlhf",
    "best_of_k",
    "forgetting",
    "ppo",
    "over_optimisation",
    "ppo_ablations",
    "ghost_attention",
    "safety",
    "diversity",
    "beyond_ppo",
    "code",
    "infilling",
    "long_context",
    "self_instruct",
    "derived",
    "lora",
    "quantization",
)
BY_HAND = {
    "page.txt": {
        "what": "A short story of the village, written for this book; the text that chapters 1 to 7 read.",
        "recipe": "written by hand",
        "licence": "CC-BY-4.0",
    },
}
WHAT = {
    "tokenizer.model": "The book's tokenizer: a SentencePiece BPE model of 2,048 pieces.",
    "base/model.safetensors": "The book's base model, 1.3M parameters in bfloat16, trained on the village's texts.",
    "base/log.json": "Its training curve, and what it could do at several steps.",
    "runs/two_minutes.json": "Logs of the two-minute run of chapter 9 with three seeds.",
    "runs/ablations.json": "Curves of short runs with other learning rates and batches, and of two that failed.",
    "runs/memorisation.json": "What 1,000 stories of the base model copy from the corpus, beside held-out stories.",
    "runs/ngrams.json": "What n-gram models reach on the base model's texts, by order and number of texts.",
    "runs/scaling.json": "Small runs of many sizes, the law fitted to them, and the larger run that it predicted.",
    "runs/sft_quality.json": "Models tuned on few or many, good or sloppy demonstrations, and how they answer.",
    "sft/model.safetensors": "The SFT model: the base model tuned on 2,000 demonstrations (chapter 12).",
    "reward/helpful.safetensors": "The first reward model of helpfulness, from comparisons of SFT models (chapter 13).",
    "reward/safe.safetensors": "The first reward model of safety (chapter 13).",
    "runs/comparisons.json": "Comparisons of chapter 13: 1,000 to learn from, the others on test prompts.",
    "runs/reward_models.json": "Reward models, three seeds each: margins, losses, data, sizes, mixtures, starts.",
    "rlhf/v3.safetensors": "RLHF-V3: the base model tuned on the best answers of three rounds (chapter 14).",
    "rlhf/helpful.safetensors": "The reward model of helpfulness after the third round (chapter 14).",
    "rlhf/safe.safetensors": "The reward model of safety after the third round (chapter 14).",
    "runs/rlhf.json": "RLHF-V0 to V3 with three seeds: scores of 860 answers to test prompts of each.",
    "runs/best_of_k.json": "64 answers to each of 102 test prompts: their rewards and true scores, for every K.",
    "runs/forgetting.json": "A third round of few families, learnt alone and with all before: true scores.",
    "rlhf/v4.safetensors": "RLHF-V4: a fourth round, of a second run from the start (chapter 15).",
    "rlhf/v5.safetensors": "RLHF-V5: V4 after PPO, the checkpoint that validation prompts chose (chapter 15).",
    "runs/ppo.json": "V0 to V5 with three seeds: scores of 860 answers of each, and PPO's looks at validation prompts.",
    "runs/over_optimisation.json": "PPO past the top of the true score, and three cures, three seeds each.",
    "runs/ppo_ablations.json": "Short runs of PPO with one detail changed, three seeds each.",
    "gatt/before.safetensors": "RLHF-V3, tuned to obey instructions in single questions (chapter 16).",
    "gatt/model.safetensors": "The same model after Ghost Attention (chapter 16).",
    "runs/ghost_attention.json": "How long instructions are kept before and after Ghost Attention, three seeds.",
    "runs/safety.json": "Amounts of safety data and context distillation, three seeds: scores of 335 test answers.",
    "runs/red_team.json": "Attacks that succeed by round and vector, and safety undone by tuning, three seeds.",
    "runs/diversity.json": "Self-BLEU and true helpfulness of RLHF-V0 to V3 by temperature, three seeds.",
    "runs/beyond_ppo.json": "PPO, REINFORCE, RLOO, GRPO and DPO with one budget, three seeds each: scores, KL, costs.",
    "code/tokenizer.model": "The tokenizer of code: 1,024 pieces, four of which mark a hole and its end (chapter 19).",
    "code/model.safetensors": "The base model trained on code with holes, which fills lines of the village's programs.",
    "runs/infilling.json": "Code training with and without holes, three seeds: what is filled in, bits left to right.",
    "code/long.safetensors": "A model of 0.2M parameters that follows assignments over 64 tokens; chapter 19 tunes it.",
    "runs/long_context.json": "Loss by position and keys found, by three ways to turn queries and keys, three seeds.",
    "runs/self_instruct.json": "Exercises passed before and after learning from own solutions, three seeds.",
    "runs/derived.json": "Marks of students of Alpaca's, Vicuna's, WizardLM's and Orca 2's recipes, three seeds.",
    "runs/lora.json": "LoRA of five ranks beside full fine-tuning, three seeds: marks, bits per character, rates.",
    "runs/quantization.json": "The base model and RLHF-V5 on 16 grids: likelihood, facts, true scores (chapter 21).",
}
NOT_DATA = {"manifest.json", "README.md"}


def data_files() -> list[str]:
    """Names of all files below `data/` that a chapter may load, sorted."""
    found = (path for path in DATA.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".tmp"))
    return sorted(name for path in found if (name := path.relative_to(DATA).as_posix()) not in NOT_DATA)


def descriptions() -> dict[str, dict[str, str]]:
    """What each file is, by name."""
    made = {name: recipe for recipe in RECIPES for name in importlib.import_module(f"recipes.{recipe}").OUTPUTS}
    generated = {
        name: {"what": WHAT[name], "recipe": f"python data/build.py {recipe}", "licence": "Apache-2.0"}
        for name, recipe in made.items()
    }
    return BY_HAND | generated


def manifest() -> dict[str, dict]:
    """The manifest of the files as they are now.

    Raises:
        KeyError: if a file has no description here, or a described file is not there.
    """
    names, described = data_files(), descriptions()
    if differing := set(names) ^ set(described):
        raise KeyError(
            f"files and descriptions in {Path(__file__).name} differ by {sorted(differing)}; build or delete"
        )
    entries = {}
    for name in names:
        raw = (DATA / name).read_bytes()
        entries[name] = {**described[name], "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        log = (DATA / name).with_name("log.json")
        if name.endswith(".safetensors") and log.exists():
            last = json.loads(log.read_text())["measures"][-1]
            entries[name]["metrics"] = {k: v for k, v in last.items() if isinstance(v, (int, float))}
    return entries


def build(wanted: list[str], again: bool, work: Path) -> None:
    """Run recipes up to the last one wanted; those whose files are there are left alone unless wanted `again`."""
    for recipe in RECIPES[: 1 + max(RECIPES.index(name) for name in wanted)]:
        module = importlib.import_module(f"recipes.{recipe}")
        if again and recipe in wanted:
            shutil.rmtree(work / recipe, ignore_errors=True)
        elif all((DATA / name).exists() for name in module.OUTPUTS):
            continue
        print(f"== {recipe}: {module.__doc__.splitlines()[0]}", flush=True)
        module.main(work)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "recipes", nargs="*", metavar="recipe", help=f"any of {', '.join(RECIPES)}, manifest; none: all"
    )
    parser.add_argument("--again", action="store_true", help="remake the named ones although their files are there")
    chosen = parser.parse_args()
    if unknown := set(chosen.recipes) - {*RECIPES, "manifest"}:
        parser.error(f"unknown recipe {sorted(unknown)}; there are {', '.join(RECIPES)} and manifest")
    wanted = [name for name in chosen.recipes or RECIPES if name != "manifest"]
    work = DATA.parent / "_build" / "data"
    work.mkdir(parents=True, exist_ok=True)
    if wanted:
        build(wanted, chosen.again, work)
    text = json.dumps(manifest(), indent=2) + "\n"
    (DATA / "manifest.json").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
