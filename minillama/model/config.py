"""The shape of a Llama, as numbers (chapter 1).

A model of this family is fixed by a dozen numbers; everything else (parameters, compute, memory) follows from them.

Does: presets of the published models, the feed-forward width rule, exact counts of parameters, FLOPs and cache bytes.
Does not: hold weights or training settings.
Source: Touvron et al. 2023a, table 2; Touvron et al. 2023b, table 1 and section 2.2; Roziere et al. 2023, section 2;
    the published `params.json` files. Llama 2 34B was never released: its shape is inferred from Code Llama 34B.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace


def ffn_hidden(dim: int, multiple_of: int, multiplier: float | None = None) -> int:
    """Width of the feed-forward layer: two thirds of 4 * dim, scaled, rounded up to a multiple.

    SwiGLU has three matrices where a plain layer has two, so two thirds of the usual 4 * dim keeps the size equal.
    """
    hidden = int(2 * (4 * dim) / 3)
    if multiplier is not None:
        hidden = int(multiplier * hidden)
    return multiple_of * ((hidden + multiple_of - 1) // multiple_of)


@dataclass(frozen=True)
class ModelConfig:
    """Shape of one model. Names and meaning are those of Meta's `params.json`.

    Args:
        dim: width of the residual stream, d.
        n_layers: number of transformer blocks, L.
        n_heads: number of query heads, H; must divide `dim` into an even head size.
        n_kv_heads: number of key/value heads, KV; must divide `n_heads`. None means `n_heads` (no sharing).
        vocab_size: number of token ids, V.
        multiple_of: the feed-forward width is rounded up to a multiple of this.
        ffn_dim_multiplier: extra factor on the feed-forward width (1.3 in the 70B model).
        norm_eps: epsilon of RMSNorm; read it from the checkpoint, it differs between releases.
        rope_theta: base of the rotary angles; 10,000 for Llama 1 and 2, 1,000,000 for Code Llama.
        max_seq_len: longest sequence, in tokens, that the model is meant for.
        hidden_dim: feed-forward width where the rule does not give it (other people's checkpoints). None: the rule.
        n_outputs: numbers that the head gives for each token; None: V logits. A reward model (chapter 13) has 1.

    Raises:
        ValueError: for sizes that do not fit together, naming the value and what was expected.
    """

    dim: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int | None = None
    vocab_size: int = 32000
    multiple_of: int = 256
    ffn_dim_multiplier: float | None = None
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    max_seq_len: int = 4096
    hidden_dim: int | None = None
    n_outputs: int | None = None

    def __post_init__(self) -> None:
        if self.n_kv_heads is None:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        for name in ("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "multiple_of", "max_seq_len"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive whole number, got {value!r}")
        for name in ("norm_eps", "rope_theta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        if self.ffn_hidden < 1:
            raise ValueError(f"the feed-forward width must be at least 1, got {self.ffn_hidden}: check hidden_dim")
        if self.dim % self.n_heads:
            raise ValueError(f"n_heads must divide dim into equal heads, got dim={self.dim}, n_heads={self.n_heads}")
        if self.head_dim % 2:
            raise ValueError(f"RoPE rotates feature pairs, so dim / n_heads must be even, got {self.head_dim}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads must divide n_heads={self.n_heads}, got {self.n_kv_heads}")

    @property
    def head_dim(self) -> int:
        """Size of one attention head, hd."""
        return self.dim // self.n_heads

    @property
    def group_size(self) -> int:
        """How many query heads share one key/value head; 1 is plain multi-head attention."""
        return self.n_heads // self.n_kv_heads

    @property
    def ffn_hidden(self) -> int:
        """Width of the feed-forward layer."""
        if self.hidden_dim is not None:
            return self.hidden_dim
        return ffn_hidden(self.dim, self.multiple_of, self.ffn_dim_multiplier)

    def parameter_counts(self) -> dict[str, int]:
        """Exact number of parameters by part of the model; the values add up to `n_parameters()`."""
        d, kv_dim = self.dim, self.n_kv_heads * self.head_dim
        return {
            "embedding": self.vocab_size * d,
            "attention": self.n_layers * (2 * d * d + 2 * d * kv_dim),
            "feed_forward": self.n_layers * 3 * d * self.ffn_hidden,
            "norms": (2 * self.n_layers + 1) * d,
            "output": (self.n_outputs or self.vocab_size) * d,
        }

    def n_parameters(self) -> int:
        """Exact number of parameters, embedding and output head included."""
        return sum(self.parameter_counts().values())

    def flops_per_token(self, context: int = 0, training: bool = False) -> int:
        """Floating-point operations per token: 2 N forward, 6 N in training, plus attention over `context` tokens.

        Attention costs 4 L d context forward (12 in training), counted without a discount for the causal mask, as
        in Chowdhery et al. 2022, appendix B. N includes the embedding table, as the usual 6 N D does.
        """
        factor = 3 if training else 1
        return factor * (2 * self.n_parameters() + 4 * self.n_layers * self.dim * context)

    def kv_cache_bytes(self, tokens: int, batch: int = 1, bytes_per_value: int = 2) -> int:
        """Bytes of a key/value cache that holds `tokens` positions: 2 L KV hd tokens batch bytes_per_value."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * tokens * batch * bytes_per_value

    def to_params_json(self) -> dict[str, int | float]:
        """The fields as Meta's `params.json` has them; optional fields are left out where they are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_params_json(
        cls, params: Mapping[str, int | float], vocab_size: int | None = None, max_seq_len: int | None = None
    ) -> "ModelConfig":
        """Read the content of a `params.json`.

        Args:
            params: the file's content.
            vocab_size: replaces the value -1 that Meta's files carry ("ask the tokenizer").
            max_seq_len: replaces the default of 4,096; Meta's files do not state it.

        Raises:
            ValueError: for an unknown key, or if the vocabulary size is known from neither place.
        """
        fields = dict(params)
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"params.json has keys this model does not know: {unknown}; is it a Llama 1, 2 or Code Llama?"
            )
        missing = sorted({"dim", "n_layers", "n_heads"} - set(fields))
        if missing:
            raise ValueError(f"params.json lacks {missing}; expected at least dim, n_layers and n_heads")
        if vocab_size is not None:
            fields["vocab_size"] = vocab_size
        if fields.get("vocab_size", -1) == -1:
            raise ValueError("params.json says vocab_size -1 (ask the tokenizer): pass vocab_size")
        if max_seq_len is not None:
            fields["max_seq_len"] = max_seq_len
        return cls(**fields)


_7B = ModelConfig()
_13B = replace(_7B, dim=5120, n_layers=40, n_heads=40, n_kv_heads=40)
_34B = replace(_7B, dim=8192, n_layers=48, n_heads=64, n_kv_heads=8, ffn_dim_multiplier=1.0)
_70B = replace(_34B, n_layers=80, multiple_of=4096, ffn_dim_multiplier=1.3)
_CODE = {"rope_theta": 1e6, "max_seq_len": 16384}  # trained length; Roziere et al. 2023 report use up to 100,000

PRESETS: dict[str, ModelConfig] = {
    "llama-1-7b": replace(_7B, max_seq_len=2048, norm_eps=1e-6),
    "llama-1-13b": replace(_13B, max_seq_len=2048, norm_eps=1e-6),
    "llama-1-33b": replace(_7B, dim=6656, n_layers=60, n_heads=52, n_kv_heads=52, max_seq_len=2048, norm_eps=1e-6),
    "llama-1-65b": replace(_7B, dim=8192, n_layers=80, n_heads=64, n_kv_heads=64, max_seq_len=2048),
    "llama-2-7b": _7B,
    "llama-2-13b": _13B,
    "llama-2-34b": _34B,
    "llama-2-70b": _70B,
    # 16 extra ids hold the infilling tokens, in the sizes trained to infill (not the Python variants, not 34B)
    "code-llama-7b": replace(_7B, vocab_size=32016, ffn_dim_multiplier=1.0, **_CODE),
    "code-llama-7b-python": replace(_7B, ffn_dim_multiplier=1.0, **_CODE),
    "code-llama-13b": replace(_13B, vocab_size=32016, ffn_dim_multiplier=1.0, **_CODE),
    "code-llama-13b-python": replace(_13B, ffn_dim_multiplier=1.0, **_CODE),
    "code-llama-34b": replace(_34B, **_CODE),
    "code-llama-70b": replace(_70B, vocab_size=32016, **_CODE),  # vocabulary and context: not confirmed by a source
    # sizes that run on a laptop; the stories shapes are those of the llama2.c project, which shares one table between
    # embedding and head and so counts 15M and 110M; untied, as here, they have 24.4M and 134.1M
    "nano": ModelConfig(dim=64, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=512, multiple_of=32, max_seq_len=256),
    # the book's own models: one that learns to write in two minutes of one core, where many steps count for more than
    # size, and the base model of chapters 9 to 21
    "village-small": ModelConfig(
        dim=64, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=2048, multiple_of=32, max_seq_len=512
    ),
    "village": ModelConfig(
        dim=128, n_layers=4, n_heads=4, n_kv_heads=2, vocab_size=2048, multiple_of=32, max_seq_len=512
    ),
    "stories-15m": ModelConfig(dim=288, n_layers=6, n_heads=6, multiple_of=32, max_seq_len=256),
    "stories-110m": ModelConfig(dim=768, n_layers=12, n_heads=12, multiple_of=32, max_seq_len=1024),
}
