"""Images, views of them named by (index, view number), and encoders that turn views into embeddings."""

from emc2_lite.vision.datasets import LabelledImages, load_digits, load_stl10_unlabelled
from emc2_lite.vision.encoders import DigitEncoder, ResNetEncoder
from emc2_lite.vision.stored import StoredViews, stored_stl10_views
from emc2_lite.vision.views import DigitViews, view_uniforms

__all__ = [
    "DigitEncoder",
    "DigitViews",
    "LabelledImages",
    "ResNetEncoder",
    "StoredViews",
    "load_digits",
    "load_stl10_unlabelled",
    "stored_stl10_views",
    "view_uniforms",
]
