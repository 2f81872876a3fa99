"""Images, views of them named by (index, view number), and encoders that turn views into embeddings."""

from emc2_lite.vision.augmentation import Augmentation
from emc2_lite.vision.datasets import DATASETS, load_cifar10, load_digits, load_imagenet100, load_images, load_stl10
from emc2_lite.vision.encoders import BackboneEncoder, DigitEncoder, ResNetEncoder
from emc2_lite.vision.images import FolderImages, LabelledImages
from emc2_lite.vision.transforms import SeededViews
from emc2_lite.vision.views import DigitViews, FileViews, ImageViews, Views, view_uniforms

__all__ = ["Augmentation", "BackboneEncoder", "DigitEncoder", "DigitViews", "FileViews", "ImageViews"]
__all__ += ["ResNetEncoder", "Views"]
__all__ += ["DATASETS", "FolderImages", "LabelledImages", "SeededViews", "load_cifar10", "load_digits"]
__all__ += ["load_imagenet100", "load_images", "load_stl10", "view_uniforms"]
