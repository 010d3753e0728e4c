"""Models: their configuration, the decoder, and the readers of checkpoint files."""

from minillm.models.config import ModelConfig, RopeConfig
from minillm.models.decoder import Decoder
from minillm.models.loader import load_model

__all__ = ["Decoder", "ModelConfig", "RopeConfig", "load_model"]
