"""Training: one trainer for every loss, the references it compares with, and models from scratch to start with.

Importing this package loads no torch.
"""

from pairwright.train.config import LoraSettings, TrainConfig, resolve
from pairwright.train.job import TrainedModel, train
from pairwright.train.scratch import scratch

__all__ = ["LoraSettings", "TrainConfig", "TrainedModel", "resolve", "scratch", "train"]
