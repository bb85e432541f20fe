"""States of torch that a caller may have set, as context managers by name."""

from contextlib import contextmanager

import torch


@contextmanager
def assigned(holder, name, value):
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


@contextmanager
def called(set_it, value, before):
    set_it(value)
    try:
        yield
    finally:
        set_it(before)


AMBIENT = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64": lambda: called(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: called(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device": lambda: called(torch.set_default_device, "meta", None),
    "device": lambda: torch.device("meta"),
    "deterministic": lambda: called(torch.use_deterministic_algorithms, True, False),
    "medium products": lambda: called(torch.set_float32_matmul_precision, "medium", "highest"),
    "bfloat16 products": lambda: assigned(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
    "tf32 by default": lambda: assigned(torch.backends, "fp32_precision", "tf32"),
}
