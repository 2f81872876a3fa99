"""How torch.compile meets this library's compiled code: it calls such functions as they are."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def untraced(function: Callable) -> Callable:
    """A function that torch.compile calls instead of tracing it: the graph ends before it, and goes on after it.

    numba's kernels cannot be traced. `torch.compiler.disable` itself would import torch's compiler with this library.
    """

    @wraps(function)
    def call(*arguments: Any, **settings: Any) -> Any:
        if torch.compiler.is_compiling():  # only where torch.compile reads this line
            return torch.compiler.disable(function)(*arguments, **settings)
        return function(*arguments, **settings)

    return call
