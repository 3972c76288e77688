"""The recipe of a run from a corpus to a model: everything that decides its result (chapter 11).

Does: defaults that train a model in minutes on a laptop; the shape and the numbers that model and trainer take.
Does not: run it; `minillama.pretraining.pretrain` does.
Source: our own choice of defaults; the optimiser's settings that stand in none of these fields are the paper's, see
    `minillama.pretraining.schedule`.
"""

from dataclasses import dataclass, replace

from minillama.model.config import PRESETS, ModelConfig
from minillama.pretraining.schedule import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """What decides the result of a run.

    Args:
        data: see `open_corpus`.
        documents: stories and pages of the village, if that is the corpus.
        tokenizer: a `tokenizer.model`, or "train" to learn one from the corpus.
        vocab_size: pieces of a tokenizer that is learned; None for as many as the preset has.
        preset: a shape of `PRESETS`.
        dim, layers, heads, kv_heads: other numbers than the preset's; `kv_heads` follows `heads` if only that is given.
        steps: updates of the weights.
        batch_size: sequences in a batch, over all processes.
        context: tokens in a sequence.
        accumulate: batches in an update.
        lr: highest learning rate; the paper's 3e-4 is for 7B and 13B, small models want more.
        warmup: updates until it is reached; None for a tenth of the steps.
        dtype, compile: see `TrainConfig`.
        seed: of the first weights and of the order of the data.
        save_every, eval_every: updates between checkpoints, and between looks at held-out text; 0 for none before the
            end, None for a tenth of the steps.
        sample: beginning of the text that the model continues at every look.
    """

    data: str = "village"
    documents: int = 10_000
    tokenizer: str = "train"
    vocab_size: int | None = None
    preset: str = "village-small"
    dim: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    steps: int = 1000
    batch_size: int = 16
    context: int = 128
    accumulate: int = 1
    lr: float = 3e-3
    warmup: int | None = None
    dtype: str = "float32"
    compile: bool = False
    seed: int = 0
    save_every: int | None = None
    eval_every: int | None = None
    sample: str = ""

    def model(self, vocab_size: int | None = None) -> ModelConfig:
        """The shape of the model, with the tokenizer's number of pieces.

        Raises:
            ValueError: if the preset is not known or the numbers do not fit.
        """
        if self.preset not in PRESETS:
            raise ValueError(f"there is no preset {self.preset!r}; the presets are {', '.join(PRESETS)}")
        preset = PRESETS[self.preset]
        shape = {
            "dim": self.dim,
            "n_layers": self.layers,
            "n_heads": self.heads,
            "n_kv_heads": self.kv_heads or self.heads,
            "vocab_size": vocab_size or self.vocab_size,
            "max_seq_len": max(self.context, preset.max_seq_len),
        }
        return replace(preset, **{name: value for name, value in shape.items() if value is not None})

    def training(self) -> TrainConfig:
        """The numbers of the run as the trainer takes them; `ValueError` for one out of range."""
        often = max(1, self.steps // 10)
        return TrainConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            context=self.context,
            peak_lr=self.lr,
            warmup_steps=self.steps // 10 if self.warmup is None else self.warmup,
            accumulate=self.accumulate,
            dtype=self.dtype,
            compile=self.compile,
            seed=self.seed,
            eval_every=often if self.eval_every is None else self.eval_every,
            save_every=often if self.save_every is None else self.save_every,
        )
