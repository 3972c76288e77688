"""PyTorch's kernels for 8- and 4-bit weights on a CPU (chapter 21): used where they work, never trusted blindly.

Decoding waits for memory, so a kernel that reads integers and turns them into floats inside the processor's registers
is faster in proportion to the bytes it saves. PyTorch has two such kernels under private names. Private names may
vanish or change, so each is tried once against plain arithmetic, and `quantization` does without where it fails.

Does: say whether a kernel can take an input; put 4-bit numbers into the order that the kernel wants, and back.
Does not: run on a GPU; know the kernel's order beforehand, for it differs between processors: it is found by a probe.
Source: PyTorch's `_weight_int8pack_mm`, `_weight_int4pack_mm_for_cpu`, `_convert_weight_to_int4pack_for_cpu`.
"""

from functools import lru_cache

import torch
from torch import Tensor

MAX_ROWS = 48  # above this many rows of input, expanding the weights first is faster; measured on a 7B matrix
BLOCK = 64  # rows of the weight that the 4-bit kernel shuffles together


def int8_matmul(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x (n, in) times weight (out, in) int8 with one scale per row, shape (n, out), by the kernel."""
    return torch._weight_int8pack_mm(x.contiguous(), weight, scale.to(x.dtype))


def int4_matmul(x: Tensor, packed: Tensor, group: int, scales_and_zeros: Tensor) -> Tensor:
    """x (n, in) times 4-bit weights in the kernel's order, shape (n, out), by the kernel."""
    constants = scales_and_zeros.to(x.dtype)
    return torch.ops.aten._weight_int4pack_mm_for_cpu(x.contiguous(), packed, group, constants)


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether a kernel may see this input at all: few rows, on a CPU, no gradient, columns in whole vectors.

    The 8-bit kernel reads past the end of a row whose length is no multiple of 16, without a complaint.
    """
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype in (torch.bfloat16, torch.float32)
        and 0 < x.shape[0] <= MAX_ROWS
        and x.shape[1] % 32 == 0
        and not (torch.is_grad_enabled() and x.requires_grad)
    )


@lru_cache
def int8_works(dtype: torch.dtype) -> bool:
    """Whether the 8-bit kernel is there and multiplies a small matrix as plain arithmetic does."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 64, generator=generator).to(dtype)
    weight = torch.randint(-127, 128, (32, 64), generator=generator).to(torch.int8)
    scale = torch.rand(32, generator=generator).bfloat16()
    try:
        found = int8_matmul(x, weight, scale)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return _agree(found, x.double() @ (weight * scale.double()[:, None]).T)


@lru_cache
def int4_works(dtype: torch.dtype, rows: int, group: int) -> bool:
    """Whether the 4-bit kernel is there for matrices of this many rows, and whether its order could be found."""
    rows = BLOCK + rows % BLOCK  # a full block and the same rest
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2 * group, generator=generator).to(dtype)
    numbers = torch.randint(0, 16, (rows, 2 * group), generator=generator).to(torch.uint8)
    parts = torch.randn(2, rows, 2, generator=generator).bfloat16()  # (in / group, out, scale and zero)
    try:
        packed = pack_int4(numbers)
        if not torch.equal(unpack_int4(packed, rows), numbers):
            return False
        found = int4_matmul(x, packed, group, parts)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    scale, zero = (part.T.double().repeat_interleave(group, 1) for part in parts.unbind(-1))
    return _agree(found, x.double() @ ((numbers.double() - 8) * scale + zero).T)


def _agree(found: Tensor, expected: Tensor) -> bool:
    return bool((found.double() - expected).norm() < 0.02 * expected.norm())  # bfloat16 is good for about 0.004


def pack_int4(numbers: Tensor) -> Tensor:
    """Numbers 0..15, uint8 of shape (out, in), in the kernel's order, two to a byte, uint8 of shape (out, in / 2)."""
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers.int(), 1)


@lru_cache
def _slots(rows: int) -> Tensor:
    """Where the kernel's order puts each of `rows` <= 64 rows of a block: the half bytes of one column, low half first.

    Row number r is written as two digits of base 16, each packed as a matrix of its own; what comes out says which row
    went where.
    """
    numbers = torch.arange(rows, dtype=torch.uint8)[:, None].expand(rows, 32)
    low, high = (_halves(pack_int4(digit.contiguous()), rows) for digit in (numbers % 16, numbers // 16))
    found = (low.long() + 16 * high.long())[0]  # (32 columns, rows), and every column must tell the same
    if not (found == found[0]).all() or sorted(found[0].tolist()) != list(range(rows)):
        raise RuntimeError("the 4-bit kernel's order is none that this module understands")
    return found[0].argsort()


def _halves(packed: Tensor, rows: int) -> Tensor:
    """Bytes of whole blocks as half bytes, uint8 of shape (blocks, in, rows of a block)."""
    packed = packed.reshape(-1, packed.shape[1] * 2, rows // 2)  # the kernel keeps a block's column together
    return torch.stack([packed & 15, packed >> 4], -1).flatten(-2)


def unpack_int4(packed: Tensor, rows: int) -> Tensor:
    """The inverse of `pack_int4`, for the first `rows` rows of a matrix, or for a run of rows that starts a block."""
    whole = rows // BLOCK * BLOCK
    parts = []
    for part, size in ((packed[:whole], BLOCK), (packed[whole:rows], rows - whole)):
        if len(part):
            slots = _slots(size)
            columns = part.reshape(-1, part.shape[1] * 2, size // 2).transpose(1, 2)  # (blocks, rows / 2, in)
            pairs = columns.index_select(1, slots // 2)  # (blocks, rows, in): the byte that holds each row's number
            parts.append(((pairs >> (4 * (slots % 2))[:, None].to(torch.uint8)) & 15).reshape(len(part), -1))
    return torch.cat(parts)
