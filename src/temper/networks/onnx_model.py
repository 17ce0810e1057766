"""Runs a deployed ONNX file with ONNX Runtime; its answers have the same names as those of a network."""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime
import torch

from temper.problem import Answer

onnxruntime.disable_telemetry_events()
FEATURES = "temper.features"
"""Key of a file's metadata for the outputs that are features, as a JSON list of names."""
Given: TypeAlias = Mapping[str, np.ndarray] | np.ndarray
"""A batch of each input as it is packed, by name; an array alone stands for the only input."""
PART = 64
"""Number of examples that a core answers at once when a whole split is answered.

It is fixed, so that the answers do not depend on the number of cores.
"""


class Deployed:
    """A deployed ONNX file: packed inputs in, an answer out.

    Args:
        path: The ONNX file.
        threads: Number of threads of one run; None uses all cores.
        part: Number of images in each part of a batch; one core answers one part. With None, the cores share
            every layer of a whole batch. Parts are faster for large batches, and leave no spinning threads
            next to torch's.

    Attributes:
        metadata: Metadata of the file (class names, digests).
        inputs: Names of the inputs.
        outputs: Names of the answers.
        features: Names of the feature maps and vectors that the file also returns.
    """

    def __init__(self, path: Path, threads: int | None = None, *, part: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._part, self._pool = part, None
        if part is not None:
            options.intra_op_num_threads = 1
            self._pool = ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)))
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.metadata: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)
        self.features: tuple[str, ...] = tuple(json.loads(self.metadata.get(FEATURES, "[]")))
        self.inputs = tuple(given.name for given in self.session.get_inputs())
        names = (output.name for output in self.session.get_outputs())
        self.outputs = tuple(name for name in names if name not in self.features)

    def __call__(self, given: Given) -> Answer:
        """Answer a batch, e.g. uint8 images [batch, height, width, channels]."""
        return self._run(self.outputs, given)

    def look(self, given: Given) -> dict[str, torch.Tensor]:
        """Return the features of a batch by name."""
        return self._run(self.features, given) if self.features else {}

    def _run(self, names: tuple[str, ...], given: Given) -> dict[str, torch.Tensor]:
        feed = as_feed(given, self.inputs)
        if self._pool is None or self._part is None:
            values = self.session.run(list(names), feed)
        else:
            size = len(feed[self.inputs[0]])
            parts = [
                {name: column[start : start + self._part] for name, column in feed.items()}
                for start in range(0, size, self._part)
            ]
            answers = list(self._pool.map(lambda part: self.session.run(list(names), part), parts))
            values = [np.concatenate(column) for column in zip(*answers, strict=True)]
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


def as_feed(given: Given, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return what a file with these inputs is fed with; other columns are left out."""
    if isinstance(given, np.ndarray):
        (only,) = names
        return {only: np.ascontiguousarray(given)}
    return {name: np.ascontiguousarray(given[name]) for name in names}
