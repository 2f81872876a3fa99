"""Functions that torch.compile calls without tracing them."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def untraced(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make torch.compile call the function without tracing it, as numba's kernels need; the graph breaks at the call.

    `torch.compiler.disable` as a decorator would import torch's compiler together with this library.
    """

    @wraps(function)
    def call(*arguments: Arguments.args, **settings: Arguments.kwargs) -> Result:
        if torch.compiler.is_compiling():  # true only while torch.compile traces this line
            return torch.compiler.disable(function)(*arguments, **settings)
        return function(*arguments, **settings)

    return call
