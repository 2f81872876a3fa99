"""An imitated second device, for machines without one: its tensors compute on the CPU.

Within `Elsewhere()` factories and moves to `DEVICE` give tensors that name it as their device. As on a GPU, they mix
only with the CPU's scalars of no dimension, they have no `numpy()`, and only `torch.Generator(DEVICE)` serves them.
`waits` counts the waits of the host: numbers that it reads, and copies to the device that are not `non_blocking`.
"""

from collections import Counter
from contextlib import ExitStack
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("mps", 0)  # torch knows this name on every machine; the device itself is not used
CPU = torch.device("cpu")
READS = {
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
_Generator, _parse_to = torch.Generator, torch._C._nn._parse_to
_entered: list["Elsewhere"] = []


def is_elsewhere(device) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


class ElsewhereTensor(torch.Tensor):
    """`inner` is the CPU tensor with its numbers."""

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=CPU
        )
        made.inner = inner
        return made

    @property
    def device(self):
        return DEVICE

    @property
    def is_cpu(self):
        return False

    def __repr__(self, **_):
        return f"elsewhere({self.inner!r})"

    def __reduce_ex__(self, protocol):
        _count("save")
        return self.inner.detach().__reduce_ex__(protocol)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.Tensor.tolist:
            _count("tolist")
            return args[0].inner.detach().tolist()
        if function in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError(f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() first.")
        with torch._C.DisableTorchFunctionSubclass():
            if function is torch.Tensor.cpu:
                return _moved(args[0], CPU)
            if function is torch.Tensor.to:
                return _to(*args, **kwargs)
            if function is torch.Tensor.new_tensor:
                return torch.tensor(args[1], **{"dtype": args[0].dtype, "device": args[0].device} | kwargs)
            return function(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _computed(function, args, kwargs or {})


class ElsewhereGenerator(_Generator):
    def __new__(cls):
        return super().__new__(cls, CPU)

    @property
    def device(self):
        return DEVICE


class _OnAnyDevice(type(_Generator)):
    def __call__(cls, device=CPU):
        return ElsewhereGenerator() if is_elsewhere(device) else _Generator(device)

    def __instancecheck__(cls, value):
        return isinstance(value, _Generator)


class AnyGenerator(_Generator, metaclass=_OnAnyDevice):
    """Takes the place of torch.Generator while there is a second device."""


class _OwnGenerators(TorchFunctionMode):
    """Refuses a generator of another device than that of the drawn numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if (generator := kwargs.get("generator")) is not None:
            on = next((value.device for value in args if isinstance(value, torch.Tensor)), CPU)
            if is_elsewhere(kwargs.get("device") or on) != is_elsewhere(generator.device):
                raise RuntimeError(f"Expected another device type for generator but found '{generator.device}'")
        return function(*args, **kwargs)


class Elsewhere(TorchDispatchMode):
    """While entered, there is a second device, `DEVICE`; `waits` counts waits by the name of the operation."""

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __enter__(self):
        self.around = ExitStack()
        self.around.enter_context(patch("torch.Generator", AnyGenerator))
        self.around.enter_context(patch("torch._C._nn._parse_to", _parsed))
        self.around.enter_context(_OwnGenerators())
        # torch.tensor(..., device=...) makes a CPU tensor and moves it, and a module that moves gets new parameters.
        self.before = torch._C._only_lift_cpu_tensors(), torch.__future__.get_overwrite_module_params_on_conversion()
        _set_ways(True, True)
        _entered.append(self)
        return super().__enter__()

    def __exit__(self, *failure):
        super().__exit__(*failure)
        _entered.remove(self)
        _set_ways(*self.before)
        self.around.close()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _computed(function, args, kwargs or {})


def _set_ways(lifts, overwrites):
    torch._C._set_only_lift_cpu_tensors(lifts)
    torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


def _count(name):
    for mode in _entered:
        mode.waits[name] += 1


def _to(tensor, *args, copy=False, **kwargs):
    """Tensor.to, by the devices that the tensors name."""
    device, dtype, non_blocking, memory_format = _parsed(*args, **kwargs)
    if device is None or device.type == tensor.device.type:
        return tensor.to(tensor.dtype if dtype is None else dtype, copy=copy, memory_format=memory_format)
    return _moved(tensor, device, dtype=dtype, non_blocking=non_blocking, memory_format=memory_format)


def _parsed(*args, **kwargs):
    """The arguments of `to`, of tensors and of modules."""
    if args and isinstance(args[0], torch.Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    return _parse_to(*args, **kwargs)


def _moved(tensor, device, **settings):
    return torch.ops.aten._to_copy.default(tensor, device=device, **settings)


def _computed(function, args, kwargs):
    """Run an operation on the CPU, and wrap its result if a real device would hold it."""
    name, tensors = function.overloadpacket.__name__, tree_flatten((args, kwargs))[0]
    there = [value for value in tensors if isinstance(value, ElsewhereTensor)]
    here = [value for value in tensors if isinstance(value, torch.Tensor) and not isinstance(value, ElsewhereTensor)]
    given = kwargs.get("device")
    # For a tensor made beside these, torch's C++ names the CPU as the device.
    beside = name.startswith("new_") or name.endswith("_like")
    target = bool(there) if given is None or beside else is_elsewhere(given)
    crossing = name in ("_to_copy", "copy_")
    if there and any(value.dim() for value in here) and not crossing:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and cpu! ({name})"
        )
    if crossing:
        _count_crossing(name, args, kwargs, target)
    elif there and (name in READS or _has_masks(name, args)):
        _count(name)

    values, settings = tree_map(lambda v: v.inner if isinstance(v, ElsewhereTensor) else v, (args, kwargs))
    if "device" in settings:
        settings["device"] = CPU
    result = function(*values, **settings)
    if not target or (name == "copy_" and not isinstance(args[0], ElsewhereTensor)):
        return result
    result = tree_map(lambda v: ElsewhereTensor(v) if isinstance(v, torch.Tensor) else v, result)
    return return_and_correct_aliasing(function, args, kwargs, result) if there else result


def _count_crossing(name, args, kwargs, target):
    first = isinstance(args[0], ElsewhereTensor)
    source, goal = (isinstance(args[1], ElsewhereTensor), first) if name == "copy_" else (first, target)
    if source and not goal:
        _count("download")
    if goal and not source:
        waits = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
        _count("upload") if waits else None


def _has_masks(name, args):
    return name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
        index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
    )
