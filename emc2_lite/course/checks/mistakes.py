"""Mistakes that exercises of several chapters share."""

import inspect
from collections.abc import Callable


def wrong_temperatures(reference: Callable) -> dict[str, Callable]:
    """Without the temperature, and multiplied by the temperature: `reference` at 1 and at 1 / temperature."""
    place = list(inspect.signature(reference).parameters).index("temperature")

    def at(change: Callable[[float], float]) -> Callable:
        return lambda *inputs: reference(*inputs[:place], change(inputs[place]), *inputs[place + 1 :])

    return {
        "The temperature is missing: a score is a similarity divided by the temperature": at(lambda temperature: 1.0),
        "The similarities are multiplied by the temperature: divide": at(lambda temperature: 1 / temperature),
    }
