"""Seconds of one PPO iteration (rollout and update) beside TRL's PPOTrainer and a plain writing with `transformers`.

    pip install --no-deps trl==1.12.0       # the last release that has PPO; not needed for the other two
    python benchmarks/ppo.py                # about four minutes

Same policy, reference, reward and value model (the village's, 1.3 million parameters each), same prompts, 128 answers
of at most 96 tokens, 4 mini-batches, 1 epoch, one thread, float32. One reward model, since TRL knows no second. How it
is measured: processor time of this process, so that a busy machine does not count against one side; the contestants
take turns, iteration by iteration where they can (TRL's loop cannot be left: its iterations run in one go), medians.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import copy
import importlib.util
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from minillama import data_path
from minillama.alignment.chat import encode_prompt, messages
from minillama.alignment.policy_gradient import gae, masked_mean, policy_loss, token_rewards, value_loss, whiten
from minillama.alignment.ppo import PPO, PPOConfig
from minillama.alignment.reward import grade
from minillama.alignment.rounds import HARMLESS, prompts
from minillama.model.checkpoints import load_safetensors
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "model"))
from test_parity import hf_model  # the weights under the other library's names

CONFIG = PPOConfig(batch_size=128, minibatch_size=32, lr=1e-5, value_lr=1e-5, beta=0.05)
EOS, PAD = 2, 0


def load(name: str) -> Llama:
    """A model of the book, in float32."""
    return load_safetensors(data_path(name), dtype=torch.float32)


def causal(model: Llama) -> LlamaForCausalLM:
    """The policy in `transformers`."""
    theirs = hf_model(model)
    for config in (theirs.config, theirs.generation_config):
        config.eos_token_id, config.pad_token_id, config.bos_token_id = EOS, PAD, 1
    return theirs


def classifier(model: Llama, body: Llama) -> LlamaForSequenceClassification:
    """A reward or value model in `transformers`: its layers, and its head as `score`."""
    layers = {name: weight for name, weight in model.state_dict().items() if name != "output.weight"}
    whole = copy.deepcopy(body)
    whole.load_state_dict(layers, strict=False)
    inner = causal(whole)
    inner.config.num_labels = 1
    theirs = LlamaForSequenceClassification(inner.config).eval()
    theirs.model.load_state_dict(inner.model.state_dict())
    theirs.score.load_state_dict({"weight": model.output.weight})
    return theirs


class Plain:
    """The same iteration, straight from the `transformers` documentation: padded batches, `generate`, whole logits."""

    def __init__(self, policy: Llama, reward: Llama, asked: list[list[int]]):
        self.policy, self.reference = causal(policy), causal(policy)
        self.value, self.reward = classifier(reward, policy), classifier(reward, policy)
        self.asked, self.at = asked, 0
        self.optimizers = [torch.optim.AdamW(m.parameters(), CONFIG.lr) for m in (self.policy, self.value)]

    def step(self) -> float:
        """One iteration; returns the mean reward."""
        queries = self.asked[self.at : self.at + CONFIG.batch_size]
        self.at += CONFIG.batch_size
        width = max(map(len, queries))
        ids = torch.tensor([[PAD] * (width - len(q)) + q for q in queries])
        seen = torch.tensor([[0] * (width - len(q)) + [1] * len(q) for q in queries])
        with torch.no_grad():
            both = self.policy.generate(
                ids, attention_mask=seen, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=CONFIG.max_new_tokens
            )
            said = both[:, width:]
            ended = (said == EOS).cumsum(1)
            mask = (ended == 0) | ((said == EOS) & (ended == 1))
            seen = torch.cat([seen, mask.long()], 1)
            old, reference = self.logprobs(self.policy, both, seen, width), self.logprobs(
                self.reference, both, seen, width
            )  # fmt: skip
            values = self.values(self.value, both, seen, width)
            last = width + mask.sum(1) - 1
            hidden = self.reward.model(both, attention_mask=seen).last_hidden_state
            scores = self.reward.score(hidden)[torch.arange(len(both)), last, 0]
        rewards = token_rewards(whiten(scores), old, reference, mask, CONFIG.beta)
        advantages, returns = gae(rewards, values, mask, CONFIG.gamma, CONFIG.lam)
        advantages = whiten(advantages, mask)
        for part in torch.randperm(len(both)).split(CONFIG.minibatch_size):
            new = self.logprobs(self.policy, both[part], seen[part], width)
            expected = self.values(self.value, both[part], seen[part], width)
            losses = (
                policy_loss(new, old[part], advantages[part], mask[part], CONFIG.clip),
                value_loss(expected, values[part], returns[part], mask[part], CONFIG.value_clip),
            )
            for loss, optimizer, model in zip(losses, self.optimizers, (self.policy, self.value), strict=True):
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
        return masked_mean(scores, torch.ones_like(scores, dtype=torch.bool)).item()

    @staticmethod
    def logprobs(model: LlamaForCausalLM, ids: torch.Tensor, seen: torch.Tensor, width: int) -> torch.Tensor:
        """Of the answers' tokens, shape (B, T)."""
        logits = model(ids, attention_mask=seen).logits[:, width - 1 : -1]
        return logits.log_softmax(-1).gather(-1, ids[:, width:, None]).squeeze(-1)

    @staticmethod
    def values(
        model: LlamaForSequenceClassification, ids: torch.Tensor, seen: torch.Tensor, width: int
    ) -> torch.Tensor:
        """Before each token of the answers, shape (B, T)."""
        return model.score(model.model(ids, attention_mask=seen).last_hidden_state)[:, width - 1 : -1, 0]


def trl_seconds(policy: Llama, reward: Llama, asked: list[list[int]], iterations: int) -> list[float]:
    """Processor seconds of each iteration of TRL's trainer but the first."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from datasets import Dataset
    from tokenizers import Tokenizer as Fast
    from tokenizers.models import WordLevel
    from transformers import DataCollatorWithPadding, PreTrainedTokenizerFast, TrainerCallback
    from trl.experimental.ppo import PPOConfig as Config
    from trl.experimental.ppo import PPOTrainer

    words = {f"t{i}": i for i in range(policy.config.vocab_size)}  # the trainer reads ids; it only wants names for some
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Fast(WordLevel(words, "t0")), eos_token=f"t{EOS}", pad_token=f"t{PAD}", padding_side="left"
    )
    ticks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            ticks.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            output_dir=folder, per_device_train_batch_size=CONFIG.batch_size, gradient_accumulation_steps=1,
            num_mini_batches=CONFIG.batch_size // CONFIG.minibatch_size, num_ppo_epochs=CONFIG.epochs,
            total_episodes=iterations * CONFIG.batch_size, response_length=CONFIG.max_new_tokens, stop_token="eos",
            temperature=1.0, kl_coef=CONFIG.beta, cliprange=CONFIG.clip, cliprange_value=CONFIG.value_clip,
            gamma=CONFIG.gamma, lam=CONFIG.lam, learning_rate=CONFIG.lr, missing_eos_penalty=-CONFIG.no_end,
            local_rollout_forward_batch_size=CONFIG.batch_size, num_sample_generations=0, report_to="none",
            use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no", logging_strategy="no", seed=0,
            gradient_checkpointing=False,
        )  # fmt: skip
        trainer = PPOTrainer(
            args=config, processing_class=tokenizer, model=causal(policy), ref_model=causal(policy),
            reward_model=classifier(reward, policy), value_model=classifier(reward, policy),
            train_dataset=Dataset.from_dict({"input_ids": asked}), eval_dataset=Dataset.from_dict({"input_ids": asked}),
            data_collator=DataCollatorWithPadding(tokenizer), callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
    return [after - before for before, after in zip(ticks, ticks[1:], strict=False)]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--iterations", type=int, default=6)
    iterations = parser.parse_args().iterations
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(data_path("tokenizer.model"))
    policy, reward = load("sft/model.safetensors"), load("reward/helpful.safetensors")
    requests = prompts("train", (iterations + 1) * CONFIG.batch_size, 5, HARMLESS)
    asked = [encode_prompt(tokenizer, messages(request)) for request in requests]
    # both sides hold the same weights
    probe = torch.tensor([asked[0]])
    torch.testing.assert_close(causal(policy)(probe).logits, policy(probe), atol=1e-4, rtol=1e-4)

    ours = PPO(
        copy.deepcopy(policy), copy.deepcopy(reward), tokenizer, requests,
        lambda requests, answers: grade(reward, tokenizer, requests, answers), CONFIG,
    )  # fmt: skip
    plain = Plain(policy, reward, asked)
    seconds: dict[str, list[float]] = {"minillama": [], "transformers, plainly": []}
    for turn in range(iterations + 1):
        for name, step in (("minillama", lambda: ours.update(ours.rollout())), ("transformers, plainly", plain.step)):
            start = time.process_time()
            step()
            if turn:  # the first is for warming up
                seconds[name].append(time.process_time() - start)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    if importlib.util.find_spec("trl"):
        import trl

        versions += f", trl {trl.__version__}"
        seconds["TRL's PPOTrainer"] = trl_seconds(policy, reward, asked, iterations + 1)
    print(f"{versions}; {CONFIG.batch_size} answers, {CONFIG.batch_size // CONFIG.minibatch_size} mini-batches")
    own = statistics.median(seconds["minillama"])
    for name, found in seconds.items():
        middle = statistics.median(found)
        print(f"  {name:24s} {middle:6.2f} s an iteration ({min(found):.2f} to {max(found):.2f})   x{middle / own:.2f}")


if __name__ == "__main__":
    main()
