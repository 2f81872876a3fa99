"""EMC2: contrastive learning whose negatives are drawn by one Markov chain per sample.

The rooms, in the order data flows: ``vision`` (images, views, encoders), ``losses`` (which use ``sampling``),
``training``, ``evaluation``, ``laboratory`` (experiments as functions that return data). ``course`` holds what only
the chapters need.
"""

__version__ = "0.1.0"
