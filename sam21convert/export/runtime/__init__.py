"""Run an export without torch: numpy and onnxruntime are all that it takes.

* :func:`load` opens an export, an :class:`OnnxModel`.
* :class:`OnnxImagePredictor` and :class:`OnnxVideoPredictor` have the methods of the official
  predictors; arrays of numpy go in and come out.
* :class:`Frames` are the frames of a video that are normalised already.
"""

from .image import OnnxImagePredictor as OnnxImagePredictor
from .model import OnnxModel as OnnxModel
from .model import load as load
from .pictures import Frames as Frames
from .tracker import Observer as Observer
from .video import OnnxVideoPredictor as OnnxVideoPredictor

__all__ = ["Frames", "Observer", "OnnxImagePredictor", "OnnxModel", "OnnxVideoPredictor", "load"]
