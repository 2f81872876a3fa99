"""Images, views of them named by (index, view number), and encoders that turn views into embeddings."""

from emc2_lite.vision.datasets import LabelledImages, load_digits
from emc2_lite.vision.encoders import DigitEncoder
from emc2_lite.vision.views import DigitViews, view_uniforms

__all__ = ["DigitEncoder", "DigitViews", "LabelledImages", "load_digits", "view_uniforms"]
