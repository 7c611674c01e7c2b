"""Whether a device computes in bf16 itself."""

from functools import cache

import torch

_NATIVE = ("avx512_bf16", "amx_bf16")  # of x86 processors, by their names in torch


@cache
def cpu_has_bf16() -> bool:
    """Whether this host's processor multiplies bf16 matrices; one that does not takes longer for them than in fp32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in _NATIVE)
