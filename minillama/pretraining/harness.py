"""A model in EleutherAI's lm-evaluation-harness, the yardstick of most published scores (chapter 10).

The harness brings tasks, prompts and metrics, and asks a model three things: how likely is this continuation of that
context, how likely is this whole text, and what do you answer? Here a `Llama` replies, registered as "minillama".

Does: the harness's own rules, so that scores compare with those of its other models. A continuation's tokens are those
    that context and continuation, encoded together, have beyond the number in the context alone. What exceeds
    `max_seq_len` is cut from the left, BOS too. Texts are scored in disjoint windows, the last one filled up from the
    left. Answers are greedy unless the task samples; they end at EOS or a stop string.
Does not: chat templates, several processes, a batch size found by trial. BOS is never scored: the harness's Hugging
    Face model, with a tokenizer that adds BOS, also charges a whole text for a BOS that follows BOS.
Source: `lm_eval.api.model.TemplateLM`, version 0.4.13. From the shell (a `tokenizer.model`, a file of
    `save_safetensors`, a folder of task files): python -m minillama.pretraining.harness run --model minillama
    --model_args model=my.safetensors,tokenizer=tokenizer.model --tasks my_task --include_path my_folder
"""

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from minillama.model.checkpoints import load_safetensors
from minillama.model.embeddings import at_least_float32
from minillama.model.generation import generate
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise ImportError(
        'minillama.pretraining.harness needs lm-eval: pip install "minillama[parity]"; nothing else in minillama does'
    ) from error

FIRST_BURST = 16  # tokens generated before the first look for a stop string
log = logging.getLogger(__name__)


class Sampling(NamedTuple):
    """How a task wants its answers; requests that agree share a batch."""

    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    stops: tuple[str, ...]


@register_model("minillama")
class MinillamaLM(TemplateLM):
    """A `Llama` and its tokenizer, as a model of the harness.

    Use it as `lm_eval.simple_evaluate(model=MinillamaLM(model, tokenizer), tasks=[...])`.

    Args:
        model: the model, or the path of a file written by `save_safetensors`.
        tokenizer: its tokenizer, or the path of a `tokenizer.model`.
        batch_size: rows computed together.
        device: where the model goes; it stays where it is for None, and for "cuda", which the harness's shell asks for
            by default, on a machine without it.

    Raises:
        ValueError: if the batch size is no positive number, or the tokenizer has more pieces than the model.
    """

    def __init__(
        self,
        model: Llama | str | os.PathLike,
        tokenizer: Tokenizer | str | os.PathLike,
        batch_size: int | str = 8,
        device: str | None = None,
    ):
        super().__init__()
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise ValueError(f"batch_size must be a positive whole number, got {batch_size!r}")
        self.batch_size = int(batch_size)
        self.model = model if isinstance(model, Llama) else load_safetensors(model)
        if device and (torch.cuda.is_available() or not device.startswith("cuda")):
            self.model.to(device)
        self._device = self.model.tok_embeddings.weight.device
        self.tokenizer = tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer.from_file(tokenizer)
        if self.tokenizer.vocab_size > self.model.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {self.tokenizer.vocab_size} pieces and the model knows "
                f"{self.model.config.vocab_size}: they do not belong together"
            )

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at once; the last one that it predicts comes on top."""
        return self.model.config.max_seq_len

    @property
    def max_gen_toks(self) -> int:
        """Length of an answer where the task names none, 256 as in the harness, or half the context if that is less."""
        return min(256, self.max_length // 2)

    @property
    def eot_token_id(self) -> int:
        """EOS, which ends an answer."""
        return self.tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        """BOS, which stands for an empty context."""
        return self.tokenizer.bos_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        """Ids with BOS in front, unless told not to; "<s>" inside the text is text."""
        return self.tokenizer.encode(string, bos=add_special_tokens is not False)

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """(ln p of the continuation, whether greedy decoding would say it) for rows of (texts, context, continuation).

        Options of one token differ in their target only: rows with equal inputs are computed once.
        """
        by_input: dict[tuple[int, ...], list[int]] = {}
        too_long = 0
        for number, (texts, context, continuation) in enumerate(requests):
            self._check(texts, continuation)
            row = context + continuation
            too_long += len(row) > self.max_length + 1
            by_input.setdefault(tuple(row[-self.max_length - 1 : -1]), []).append(number)
        if too_long:
            log.warning("%d of %d requests exceed %d tokens: cut left", too_long, len(requests), self.max_length + 1)
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        inputs = sorted(by_input, key=len, reverse=True)
        starts = range(0, len(inputs), self.batch_size)
        for start in tqdm(starts, desc="batches of log-probabilities", disable=disable_tqdm):
            batch = inputs[start : start + self.batch_size]
            rows = pad_sequence([torch.tensor(row) for row in batch], batch_first=True)  # (b, T), padded on the right
            hidden = self.model.hidden_states(rows.to(self.device))  # (b, T, d)
            for row, stream in zip(batch, hidden, strict=True):
                scored = max(len(requests[number][2]) for number in by_input[row])
                logits = at_least_float32(self.model.output(stream[len(row) - scored : len(row)]))  # (scored, V)
                logprobs, likeliest = logits.double().log_softmax(-1).cpu(), logits.argmax(-1).cpu()
                for number in by_input[row]:
                    texts, _, continuation = requests[number]
                    target = torch.tensor(continuation)
                    logprob = logprobs[-len(target) :].gather(-1, target[:, None]).sum().item()
                    answers[number] = (logprob, torch.equal(likeliest[-len(target) :], target))
                    if texts is not None:
                        self.cache_hook.add_partial("loglikelihood", texts, answers[number])
        return answers

    def _check(self, texts: tuple[str, str] | None, continuation: list[int]) -> None:
        if not continuation:
            raise ValueError(
                f"no token of {texts[1]!r} is left behind {texts[0][-40:]!r}: it is empty, or the tokenizer merges the "
                f"two; let the continuation begin with a space"
            )
        if len(continuation) > self.max_length:
            raise ValueError(
                f"the continuation has {len(continuation)} tokens and the model's max_seq_len is {self.max_length}: "
                f"shorten it, or score whole texts with a loglikelihood_rolling task"
            )

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """ln p of whole texts after BOS, each token counted once.

        Args:
            requests: their `args` are (text,).
            disable_tqdm: show no progress.
        """
        owners, windows = [], []
        for number, request in enumerate(requests):
            ids = self.tokenizer.encode(request.args[0])
            for window in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1):
                owners.append(number)
                windows.append((None, *make_disjoint_window(window)))
        totals = [0.0] * len(requests)
        for number, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows, disable_tqdm), strict=True):
            totals[number] += logprob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers, without the stop string that ended them and without the space in front, as SentencePiece decodes.

        Args:
            requests: their `args` are (context, settings); settings may hold until, max_gen_toks or one of its other
                names, do_sample, temperature, top_k, top_p.
            disable_tqdm: show no progress.

        Raises:
            ValueError: for another setting, or if max_gen_toks leaves no room for a context.
        """
        groups: dict[Sampling, list[tuple[int, list[int]]]] = {}
        for number, request in enumerate(requests):
            context, settings = request.args
            sampling = self._sampling(settings)
            prompt = self.tok_encode(context)[-(self.max_length - sampling.max_new_tokens) :]
            groups.setdefault(sampling, []).append((number, prompt))
        answers = [""] * len(requests)
        progress = tqdm(total=len(requests), desc="answers", disable=disable_tqdm)
        for sampling, members in groups.items():
            members.sort(key=lambda member: len(member[1]), reverse=True)
            for start in range(0, len(members), self.batch_size):
                numbers, prompts = zip(*members[start : start + self.batch_size], strict=True)
                for number, answer in zip(numbers, self._complete(prompts, sampling), strict=True):
                    answers[number] = answer
                    self.cache_hook.add_partial("generate_until", requests[number].args, answer)
                progress.update(len(numbers))
        progress.close()
        return answers

    def _sampling(self, settings: dict) -> Sampling:
        left = dict(normalize_gen_kwargs(settings, self.max_gen_toks))
        del left["do_sample"]  # where it is False, the temperature has been set to 0
        sampling = Sampling(
            left.pop("max_gen_toks"),
            left.pop("temperature", 0.0),
            left.pop("top_k", None) or None,  # 0 is another way to say: all
            left.pop("top_p", None),
            tuple(stop for stop in left.pop("until") if stop),
        )
        if left:
            raise ValueError(f"generation setting {sorted(left)} is not supported; remove it from the task's settings")
        if not 0 < sampling.max_new_tokens < self.max_length:
            raise ValueError(
                f"max_gen_toks is {sampling.max_new_tokens} and the model's max_seq_len is {self.max_length}, context "
                f"included: set it between 1 and {self.max_length - 1}, for example with gen_kwargs"
            )
        return sampling

    def _complete(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[str]:
        """Answers to prompts that leave room for them.

        Stop strings are looked for after 16 tokens, 32 more, 64 more and so on. A row that has said one leaves the
        batch; the others begin each burst by reading what they have written.
        """
        new: list[list[int]] = [[] for _ in prompts]
        answers = [""] * len(prompts)
        active, burst, written = list(range(len(prompts))), FIRST_BURST, 0
        while active:
            count = min(burst, sampling.max_new_tokens - written)
            rows = [prompts[i] + new[i] for i in active]
            found = generate(
                self.model, rows, count, sampling.temperature, sampling.top_k, sampling.top_p, (self.eot_token_id,)
            )
            written, burst = written + count, 2 * burst
            going_on = []
            for i, completion in zip(active, found, strict=True):
                new[i] += completion.tokens
                answers[i], stopped = self._until(new[i], sampling.stops)
                if not stopped and completion.stop_reason == "length" and written < sampling.max_new_tokens:
                    going_on.append(i)
            active = going_on
        return answers

    def _until(self, ids: list[int], stops: Sequence[str]) -> tuple[str, bool]:
        """The text before the stop string that was complete first, and whether there is one."""
        text = self.tokenizer.decode(ids)
        if not any(stop in text for stop in stops):
            return text, False
        beginnings = (self.tokenizer.decode(ids[:count]) for count in range(1, len(ids) + 1))
        text = next(text for text in beginnings if any(stop in text for stop in stops))
        for stop in stops:
            text = text.split(stop)[0]
        return text, True


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
