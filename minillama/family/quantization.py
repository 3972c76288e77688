"""Weights in 8 and 4 bits (chapter 21).

A grid of 2^bits equally spaced numbers is laid over a group of weights, and each weight becomes the number of its
nearest grid point. What is kept is that small integer, and the grid's spacing (and, with a zero point, its place)
once per group. Decoding reads every weight for every token, so fewer bytes are also more tokens per second.

Does: linear layers with 8-bit (one scale per row) and 4-bit weights (scale and zero per group), made row block by row
    block; whole models, in place; their bytes by arithmetic.
Does not: choose the rounding by data as GPTQ and AWQ do; quantize activations, cache, embedding or norms; train.
Source: the equations of chapter 21; the kernels are described in `minillama.family.quantized_kernels`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillama.family import quantized_kernels as kernels
from minillama.model.config import ModelConfig
from minillama.model.transformer import Llama

BLOCK_VALUES = 1 << 21  # weights converted at a time, so that float32 copies stay below 10 MB each


def _row_blocks(rows: int, columns: int) -> list[tuple[int, int]]:
    """(start, end) of row blocks that begin at a multiple of 64 and hold about `BLOCK_VALUES` weights."""
    step = max(BLOCK_VALUES // columns // kernels.BLOCK, 1) * kernels.BLOCK
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def _check_matrix(weight: Tensor) -> None:
    if weight.dim() != 2 or not weight.is_floating_point():
        raise ValueError(f"expected a matrix of floats, got {weight.dtype} of shape {tuple(weight.shape)}")


class Int8Linear(nn.Module):
    """y = x W^T with W as int8 and one scale per row: W[r, c] = scale[r] * weight[r, c].

    Args:
        weight: int8, shape (out, in), values -127..127.
        scale: bfloat16, shape (out,).
    """

    use_kernel = True  # set it to False on an instance or the class to see the plain way

    def __init__(self, weight: Tensor, scale: Tensor):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    @classmethod
    @torch.no_grad()
    def from_float(cls, weight: Tensor) -> "Int8Linear":
        """Round a matrix, a block of rows at a time, so that a mapped file is read but never copied as a whole.

        Args:
            weight: shape (out, in), any floating type.

        Returns:
            The layer, on the weight's device.

        Raises:
            ValueError: if it is no matrix of floats, or holds NaN or infinity.
        """
        _check_matrix(weight)
        numbers = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
        scale = torch.empty(len(weight), dtype=torch.bfloat16, device=weight.device)
        for start, end in _row_blocks(*weight.shape):
            block = weight[start:end].float()
            largest = block.abs().amax(1)
            _check_finite(largest)
            scale[start:end] = (largest / 127).clamp_min(1e-30)  # kept in bfloat16, so round with what is kept
            numbers[start:end] = (block / scale[start:end].float()[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        return cls(numbers, scale)

    def rows(self, start: int, end: int, dtype: torch.dtype) -> Tensor:
        """Rows of W as floats, shape (end - start, in)."""
        return self.weight[start:end].to(dtype) * self.scale[start:end, None].to(dtype)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W as floats, shape (out, in)."""
        return self.rows(0, self.out_features, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out), in the type of x; for few rows of x by PyTorch's kernel where it works."""
        flat = x.reshape(-1, x.shape[-1])  # (n, in)
        if self.use_kernel and kernels.fits(flat, self.weight) and kernels.int8_works(x.dtype):
            return kernels.int8_matmul(flat, self.weight, self.scale).view(*x.shape[:-1], -1)
        return _expanded_matmul(self, x)

    def extra_repr(self) -> str:
        """Shape, for printing a model."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Int4Linear(nn.Module):
    """y = x W^T with W as numbers n in 0..15 and two constants per group: W[r, c] = (n[r, c] - 8) * scale + zero.

    `zero` is the value of number 8, as the kernel wants it. In a state dict `weight` has two neighbouring columns in a
    byte, the even one in the lower half. The first call that uses the kernel brings it into the kernel's own order,
    which depends on the processor and is never saved.

    Args:
        weight: uint8, shape (out, in / 2).
        scales_and_zeros: bfloat16, shape (in / group, out, 2).
    """

    use_kernel = True  # set it to False on an instance or the class to see the plain way

    def __init__(self, weight: Tensor, scales_and_zeros: Tensor):
        super().__init__()
        self.out_features, self.in_features = weight.shape[0], 2 * weight.shape[1]
        self.group = self.in_features // scales_and_zeros.shape[0]
        self.kernel_order = False
        self.register_buffer("weight", weight)
        self.register_buffer("scales_and_zeros", scales_and_zeros)

    @classmethod
    @torch.no_grad()
    def from_float(cls, weight: Tensor, group: int = 64) -> "Int4Linear":
        """Round a matrix, a block of rows at a time, so that a mapped file is read but never copied as a whole.

        Args:
            weight: shape (out, in), any floating type.
            group: columns that share a scale and a zero; must divide in. The kernel takes 32, 64, 128 and 256.

        Returns:
            The layer, on the weight's device.

        Raises:
            ValueError: if it is no matrix of floats, the group does not divide its columns, or a value is not finite.
        """
        _check_matrix(weight)
        out, columns = weight.shape
        if group < 2 or group % 2 or columns % group:
            raise ValueError(f"a group must be even and divide the {columns} columns, got {group}; 32 often does")
        numbers = torch.empty(out, columns // 2, dtype=torch.uint8, device=weight.device)
        parts = torch.empty(columns // group, out, 2, dtype=torch.bfloat16, device=weight.device)
        for start, end in _row_blocks(out, columns):
            block = weight[start:end].float().view(end - start, -1, group)  # (rows, groups, group)
            low, high = block.aminmax(dim=-1)
            _check_finite(low + high)
            scale = ((high - low) / 15).clamp_min(1e-30)
            both = torch.stack([scale, low + 8 * scale], -1).bfloat16()  # (rows, groups, 2)
            parts[:, start:end] = both.transpose(0, 1)
            scale, zero = both.float().unbind(-1)  # rounded to bfloat16: round the weights with what is kept
            block = ((block - zero[..., None]) / scale[..., None]).round_().add_(8).clamp_(0, 15)
            pairs = block.view(end - start, -1, 2).to(torch.uint8)
            numbers[start:end] = pairs[..., 0] | pairs[..., 1] << 4
        return cls(numbers, parts)

    def rows(self, start: int, end: int, dtype: torch.dtype) -> Tensor:
        """Rows of W as floats, shape (end - start, in); `start` must be a multiple of 64."""
        numbers = self._numbers(start, end).view(end - start, -1, self.group)  # (rows, groups, group)
        scale, zero = self.scales_and_zeros[:, start:end].transpose(0, 1).to(dtype)[..., None, :].unbind(-1)
        return numbers.to(dtype).sub_(8).mul_(scale).add_(zero).view(end - start, -1)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W as floats, shape (out, in)."""
        return self.rows(0, self.out_features, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out), in the type of x; for few rows of x by PyTorch's kernel where it works."""
        flat = x.reshape(-1, x.shape[-1])  # (n, in)
        kernel = self.use_kernel and self.group in (32, 64, 128, 256) and self.out_features % 16 == 0
        if kernel and kernels.fits(flat, self.weight) and kernels.int4_works(x.dtype, self.out_features, self.group):
            self._reorder()
            return kernels.int4_matmul(flat, self.weight, self.group, self.scales_and_zeros).view(*x.shape[:-1], -1)
        return _expanded_matmul(self, x)

    def extra_repr(self) -> str:
        """Shape, for printing a model."""
        return f"in_features={self.in_features}, out_features={self.out_features}, group={self.group}"

    def _numbers(self, start: int, end: int) -> Tensor:
        """Numbers 0..15 of some rows, uint8 of shape (end - start, in)."""
        part = self.weight[start:end]
        if self.kernel_order:
            return kernels.unpack_int4(part.cpu(), end - start).to(part.device)
        return torch.stack([part & 15, part >> 4], -1).flatten(1)

    def _reorder(self) -> None:
        """Bring the weight into the kernel's order, block by block, in place."""
        if self.kernel_order:
            return
        for start, end in _row_blocks(self.out_features, self.in_features):
            self.weight[start:end] = kernels.pack_int4(self._numbers(start, end))
        self.kernel_order = True

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.kernel_order:
            pairs = self._numbers(0, self.out_features).view(self.out_features, -1, 2)
            destination[prefix + "weight"] = pairs[..., 0] | pairs[..., 1] << 4

    def _load_from_state_dict(self, *arguments):
        super()._load_from_state_dict(*arguments)
        self.kernel_order = False


def _check_finite(values: Tensor) -> None:
    if not values.isfinite().all():
        raise ValueError("the matrix has values that are NaN or infinite, expected none; the checkpoint is damaged")


def _expanded_matmul(layer: Int8Linear | Int4Linear, x: Tensor) -> Tensor:
    """x W^T with W expanded to floats, a block of rows at a time."""
    blocks = _row_blocks(layer.out_features, layer.in_features)
    return torch.cat([F.linear(x, layer.rows(start, end, x.dtype)) for start, end in blocks], -1)


def quantize(model: Llama, bits: int, group: int = 64, head: bool = True) -> Llama:
    """Replace the matrices of a model by 8- or 4-bit ones, one after the other. Embedding and norms stay.

    Args:
        model: changed in place.
        bits: 8 (one scale per row) or 4 (scale and zero per group).
        group: columns of a 4-bit group; it must divide every matrix's width.
        head: also the output matrix.

    Returns:
        The same model, in evaluation mode.

    Raises:
        ValueError: for other bits, or a group that does not divide a matrix's columns (nothing is changed then).
    """
    if bits not in (8, 4):
        raise ValueError(f"bits must be 8 or 4, got {bits}; `rounding.rounded` studies the others")
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found = [(name, module) for name, module in found if head or name != "output"]
    for name, module in found:
        if bits == 4 and module.in_features % group:
            raise ValueError(f"group {group} does not divide the {module.in_features} columns of {name}; 32 may do")
    for name, module in found:
        parent, _, child = name.rpartition(".")
        weight = module.weight.detach()
        layer = Int8Linear.from_float(weight) if bits == 8 else Int4Linear.from_float(weight, group)
        setattr(model.get_submodule(parent), child, layer)
    return model.eval()


def quantized_bytes(config: ModelConfig, bits: int, group: int = 64, head: bool = True) -> int:
    """Bytes of a model's weights: matrices in `bits` (16, 8 or 4), all else in bfloat16, scales included.

    Raises:
        ValueError: for other bits.
    """
    if bits not in (16, 8, 4):
        raise ValueError(f"bits must be 16, 8 or 4, got {bits}")
    counts, d, hidden = config.parameter_counts(), config.dim, config.ffn_hidden
    kv, outputs = config.n_kv_heads * config.head_dim, config.n_outputs or config.vocab_size
    matrices = counts["attention"] + counts["feed_forward"] + (counts["output"] if head else 0)
    rest = 2 * (config.n_parameters() - matrices)
    rows = config.n_layers * (3 * d + 2 * kv + 2 * hidden) + (outputs if head else 0)
    scales = {16: 0, 8: 2 * rows, 4: 4 * matrices // group}[bits]
    return rest + matrices * bits // 8 + scales
