"""PyTorch, eager or compiled: the loss is a function of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.workload import Arrays, Run

# A GPU multiplies float32 in full precision, for graphc as for the others.
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def state() -> dict[str, str]:
    """What speed depends on beside versions."""
    return {"CUDA": str(torch.version.cuda), "allow_tf32": str(torch.backends.cuda.matmul.allow_tf32)}


def gradients(
    loss: Callable[..., Any],
    data: Arrays,
    wrt: tuple[str, ...],
    batched: tuple[str, ...],
    compiled: bool,
    mode: str | None = None,
    target: str = "cpu",
) -> Run:
    """The value and the gradients, by autograd."""
    tensors = {name: tensor(array, target).requires_grad_(name in wrt) for name, array in data.items()}
    function = torch.compile(loss, mode=mode) if compiled else loss

    def step() -> Any:
        value = function(**tensors)
        return value, torch.autograd.grad(value, [tensors[name] for name in wrt])

    return Run(
        step,
        lambda result: {"loss": numpy(result[0]), **dict(zip(wrt, map(numpy, result[1]), strict=True))},
        wait=lambda _: synchronize(target),
    )


class Stepper:
    """A step of gradient descent, in place.

    Compiled, forward, adjoint and update are one graph; eager, the update is one `foreach` call.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        data: Arrays,
        wrt: tuple[str, ...],
        lr: float,
        batched: tuple[str, ...],
        compiled: bool,
        mode: str | None = None,
        target: str = "cpu",
    ) -> None:
        self._target = target
        self._params = {name: tensor(data[name], target).requires_grad_(not compiled) for name in wrt}
        for param in self._params.values() if mode else ():
            torch._dynamo.mark_static_address(param)  # else there is no graph of what updates it in place
        self._step = torch.compile(_functional(loss, lr), mode=mode) if compiled else _eager(loss, lr)

    def convert(self, feeds: Arrays) -> dict[str, torch.Tensor]:
        return {name: tensor(array, self._target) for name, array in feeds.items()}

    def step(self, batch: dict[str, torch.Tensor]) -> Any:
        return self._step(self._params, batch)

    def wait(self, loss: torch.Tensor) -> Any:
        synchronize(self._target)
        return numpy(loss)

    def params(self) -> Arrays:
        return {name: numpy(param) for name, param in self._params.items()}


def _eager(loss: Callable[..., Any], lr: float) -> Callable[..., Any]:
    def step(params: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> torch.Tensor:
        value: torch.Tensor = loss(**params, **batch)
        found = torch.autograd.grad(value, list(params.values()))
        with torch.no_grad():
            torch._foreach_add_(list(params.values()), found, alpha=-lr)
        return value.detach()

    return step


def _functional(loss: Callable[..., Any], lr: float) -> Callable[..., Any]:
    def step(params: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> torch.Tensor:
        value: torch.Tensor
        found, value = torch.func.grad_and_value(lambda params: loss(**params, **batch))(params)
        for name, param in params.items():
            param.sub_(lr * found[name])
        return value

    return step


def tensor(array: Any, target: str = "cpu") -> torch.Tensor:
    """A tensor of its own memory."""
    return torch.from_numpy(array.copy()).to(target)


def numpy(value: torch.Tensor) -> Any:
    """A tensor's values."""
    return value.detach().cpu().numpy()


def synchronize(target: str) -> None:
    """Wait for all that a device was asked for."""
    torch.get_device_module(target).synchronize()
