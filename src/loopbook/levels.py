"""Levels: the old place of `loopbook.models.levels`, which stored models name.

A model that was registered before the library had packages is stored as
scikit-learn objects of these types. It serves from ONNX and needs no such name;
whoever loads it in Python does.
"""

from loopbook.models.levels import Recalibrated, Relative

__all__ = ["Recalibrated", "Relative"]
