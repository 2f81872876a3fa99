"""What only the chapters need: the look of the figures, live figures and exercise checks."""

try:
    import anywidget  # noqa: F401  (plotly's FigureWidget needs it and does not declare it)
    import ipywidgets  # noqa: F401
    import plotly  # noqa: F401
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"The chapters need plotly, anywidget and ipywidgets, and {missing.name} is not installed: "
        'run "make setup" in the repository, or pip install plotly anywidget ipywidgets',
        name=missing.name,
    ) from None

from emc2_lite.course.exercise import Exercise
from emc2_lite.course.live import Slider, explore
from emc2_lite.course.style import start

__all__ = ["Exercise", "Slider", "explore", "start"]
