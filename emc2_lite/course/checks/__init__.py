"""Checks of the exercises, one module a topic, and the mistakes that several topics share."""

import inspect
from collections.abc import Callable


def wrong_temperatures(reference: Callable) -> dict[str, Callable]:
    """`reference` at temperature 1 and at 1 / temperature, each by its sentence."""
    place = list(inspect.signature(reference).parameters).index("temperature")

    def at(change: Callable[[float], float]) -> Callable:
        return lambda *inputs: reference(*inputs[:place], change(inputs[place]), *inputs[place + 1 :])

    return {
        "The temperature is missing: a score is a similarity divided by the temperature": at(lambda temperature: 1.0),
        "The similarities are multiplied by the temperature: divide": at(lambda temperature: 1 / temperature),
    }
