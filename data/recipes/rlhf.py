"""RLHF-V1 to V3 by rejection sampling, three times with other seeds, and what the judges say of every version.

The last policy and the last reward models of the first run are kept; the measures of all three runs are what chapter
14 shows.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch
from recipes.alignment import SEEDS, SIZES, Run, store, test_requests
from recipes.common import DATA, save_json
from tqdm import tqdm

from minillama.alignment.measures import ask, judge, kl, self_bleu, share
from minillama.alignment.rejection import Judges
from minillama.alignment.reward import differences
from minillama.alignment.rounds import Collections, Sizes, collect
from minillama.model.transformer import Llama
from minillama.village.draw import Request
from minillama.village.judges import helpfulness
from minillama.village.safety import safety

OUTPUTS = (
    "rlhf/v3.safetensors",
    "rlhf/helpful.safetensors",
    "rlhf/safe.safetensors",
    "runs/rlhf.json",
)
ROUNDS = 3
SAMPLES = 10  # answers to each of some prompts, for self-BLEU


def measured(run: Run, policy: Llama, asked: list[Request], judges: dict[str, Judges]) -> dict:
    """One version before the village's judges and reward models, by name; lists have one entry a request."""
    tok = run.tokenizer
    answers = ask(policy, tok, asked, seed=7)
    judged = judge(asked, answers)
    some = [r for r in asked if r.family in ("story", "fact", "list", "borderline", "harmful")][::12]
    many = ask(policy, tok, [r for r in some for _ in range(SAMPLES)], seed=8)
    alike = [self_bleu([a.text for a in many[i : i + SAMPLES]]) for i in range(0, len(many), SAMPLES)]
    moved = kl(policy, run.policy(0), tok, asked, answers)
    return {
        "helpful": [round(j.helpful, 3) for j in judged],
        "safe": [round(j.safe, 3) for j in judged],
        "text": [a.text for a in answers] if run.seed == 0 else None,
        "ended": [a.ended for a in answers],
        "tokens": [len(a.tokens) for a in answers],
        **{name: [round(x, 4) for x in models(asked, answers).tolist()] for name, models in judges.items()},
        "kl": [round(x, 3) for x in moved.tolist()],
        "self_bleu": round(share(alike), 4),
    }


def shift(run: Run, made: int, answered: int) -> dict:
    """How often the reward models of a round agree with the annotators and the truth on a version's answers."""
    fresh = test_comparisons(run, answered)
    found = {}
    for name, model in (("helpful", run.judges(made).helpful), ("safe", run.judges(made).safe)):
        pairs = getattr(fresh, name)
        gaps = differences(model, run.tokenizer, pairs)
        score = {"helpful": helpfulness, "safe": safety}[name]
        truth = torch.tensor([score(c.request, c.chosen.text) - score(c.request, c.rejected.text) for c in pairs])
        told = truth.abs() > 1e-9
        found[name] = {
            "pairs": len(pairs),
            "annotators": round((gaps > 0).double().mean().item(), 4),
            "truth": round(((gaps > 0) == (truth > 0))[told].double().mean().item(), 4),
        }
    return found


_FRESH: dict[tuple[int, int], Collections] = {}


def test_comparisons(run: Run, number: int) -> Collections:
    """Comparisons on test prompts between two answers of a version."""
    key = run.seed, number
    if key not in _FRESH:
        sizes = replace(run.sizes, helpful=1000, risky=450)
        _FRESH[key] = collect([run.policy(number)], run.tokenizer, sizes, 9000 + run.seed_of(number), split="test")
    return _FRESH[key]


def main(work: Path, out: Path = DATA) -> None:
    """Three runs, the first one's models and everybody's measures."""
    torch.set_num_threads(1)
    asked, found = test_requests(), []
    for seed in SEEDS:
        run = Run(work / "alignment" / f"seed-{seed}", seed)
        path = run.folder / "measures.json"
        if not path.exists():
            names = {"proxy_first": run.judges(1), "proxy_last": run.judges(ROUNDS)}
            numbers = tqdm(range(ROUNDS + 1), desc="measuring")
            versions = [measured(run, run.policy(number), asked, names) for number in numbers]
            matrix = [[shift(run, made, answered) for answered in range(ROUNDS + 1)] for made in range(1, ROUNDS + 1)]
            save_json(path, {"seed": seed, "versions": versions, "shift": matrix})
        found.append(json.loads(path.read_text()))
    run = Run(work / "alignment" / f"seed-{SEEDS[0]}", SEEDS[0])
    store(out, OUTPUTS[:3], (run.policy(ROUNDS), run.judges(ROUNDS).helpful, run.judges(ROUNDS).safe))
    save_json(out / OUTPUTS[-1], {"runs": found, "families": [r.family for r in asked], "sizes": described(SIZES)})


def described(sizes: Sizes) -> dict:
    """The sizes as JSON."""
    return json.loads(json.dumps(vars(sizes), default=vars))
