"""Stands for torch where `bide.providers.diffusers_pipelines` is tested without it: what that module asks for."""

from types import SimpleNamespace

float32, float16, bfloat16 = "float32", "float16", "bfloat16"
cuda = SimpleNamespace(is_available=lambda: False)
backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False))


def set_grad_enabled(_on: bool) -> None:
    pass


class Generator:
    def __init__(self, device: str) -> None:
        self.device, self.seed = device, 0

    def manual_seed(self, seed: int) -> "Generator":
        self.seed = seed
        return self
