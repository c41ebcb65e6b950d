"""Attention by itself, forward and backward, compiled: torch's kernel and written out, in float32 and bfloat16.

Where `model/attend.py` changes from one to the other is read off this table. Without bfloat16 in hardware, in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from normlab.bench.measure import Contestant, Timing, compete, cuda_synchronise, ratio
from normlab.bench.record import Section, seconds, times
from normlab.bench.shapes import Given, is_cuda
from normlab.bench.view import View
from normlab.model.attend import written_out
from normlab.training.hardware import has_bf16

# B, T, H, H_kv, d_head
_CPU_SHAPES = ((12, 64, 4, 4, 32), (16, 128, 4, 2, 32), (16, 256, 8, 4, 32), (4, 512, 8, 4, 64), (2, 1024, 8, 4, 64))
_GPU_SHAPES = ((8, 512, 16, 8, 64), (4, 4096, 16, 8, 64))


def run(given: Given, timing: Timing, threads: int, view: View) -> list[Section]:
    """A section per shape."""
    cuda = is_cuda(given)
    shapes: Sequence[tuple[int, ...]] = _GPU_SHAPES if cuda else _CPU_SHAPES
    shapes = shapes[1:2] if given.quick else shapes
    return [_section(shape, "cuda" if cuda else "cpu", timing, threads, view) for shape in shapes]


def _section(shape: tuple[int, ...], device: str, timing: Timing, threads: int, view: View) -> Section:
    torch._dynamo.reset()
    torch.set_num_threads(threads)
    batch, length, heads, kv_heads, d_head = shape
    words = f"{batch} x {length} tokens, {heads} heads ({kv_heads} of keys) of {d_head}"
    generator = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if has_bf16(device == "cuda") else torch.float32
    tensors = [
        torch.randn(batch, n, length, d_head, generator=generator).to(device, dtype).requires_grad_()
        for n in (heads, kv_heads, kv_heads, heads)
    ]
    *inputs, upstream = tensors
    word = str(dtype).removeprefix("torch.")
    kernel, ours = f"kernel, {word}", f"written out, {word}"
    ways: dict[str, Callable[..., Tensor]] = {
        kernel: functools.partial(_kernel, dtype=dtype),
        "kernel, float32": functools.partial(_kernel, dtype=torch.float32),
        ours: functools.partial(written_out, window=None, softcap=None),
    }
    contestants = [Contestant(name, _passes(torch.compile(way), inputs, upstream)) for name, way in ways.items()]
    view.phase(f"attention, {words}", len(contestants) * (timing.rounds + 1))
    step = compete(contestants, timing, threads, cuda_synchronise(device), view.tick)
    section = Section(f"Attention: {words}", ["", "time", f"beside {kernel}"], {"shape": list(shape)})
    for name in ways:
        beside = ratio(step[name], step[kernel])
        row = {"name": name, "seconds": step[name].plain(), "relative": beside.plain()}
        section.add(row, name, seconds(step[name].median), "" if name == kernel else times(beside))
    section.verdict = f"Written out it takes {times(ratio(step[ours], step[kernel]))} the time of the kernel."
    return section


def _kernel(q: Tensor, k: Tensor, v: Tensor, dtype: torch.dtype) -> Tensor:
    grouped = q.size(1) != k.size(1)
    y = F.scaled_dot_product_attention(q.to(dtype), k.to(dtype), v.to(dtype), is_causal=True, enable_gqa=grouped)
    return y.to(v.dtype)


def _passes(attend: Callable[..., Tensor], inputs: Sequence[Tensor], upstream: Tensor) -> Callable[[int], None]:
    def work(n: int) -> None:
        for _ in range(n):
            torch.autograd.grad(attend(*inputs), inputs, upstream)

    return work
