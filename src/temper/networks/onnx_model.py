"""Runs a deployed ONNX file with ONNX Runtime; its answers have the same names as those of a network."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from temper.problem import Answer

onnxruntime.disable_telemetry_events()
FEATURES = "temper.features"
"""Key of a file's metadata for the outputs that are features, as a JSON list of names."""
PART = 64
"""Number of images that a core answers at once when a whole split is answered.

It is fixed, so that the answers do not depend on the number of cores.
"""


class Deployed:
    """A deployed ONNX file: raw pixels in, an answer out.

    Args:
        path: The ONNX file.
        threads: Number of threads of one run; None uses all cores.
        part: Number of images in each part of a batch; one core answers one part. With None, the cores share
            every layer of a whole batch. Parts are faster for large batches, and leave no spinning threads
            next to torch's.

    Attributes:
        metadata: Metadata of the file (class names, digests).
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
        names = (output.name for output in self.session.get_outputs())
        self.outputs = tuple(name for name in names if name not in self.features)

    def __call__(self, images: np.ndarray) -> Answer:
        """Answer a batch of uint8 images [batch, height, width, channels]."""
        return self._run(self.outputs, images)

    def look(self, images: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the features by name for a batch of uint8 images [batch, height, width, channels]."""
        return self._run(self.features, images) if self.features else {}

    def _run(self, names: tuple[str, ...], images: np.ndarray) -> dict[str, torch.Tensor]:
        images = np.ascontiguousarray(images)
        if self._pool is None or self._part is None:
            values = self.session.run(list(names), {"image": images})
        else:
            parts = [images[start : start + self._part] for start in range(0, len(images), self._part)]
            answers = list(self._pool.map(lambda part: self.session.run(list(names), {"image": part}), parts))
            values = [np.concatenate(column) for column in zip(*answers, strict=True)]
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}
