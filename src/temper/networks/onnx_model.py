"""A deployed file at work: ONNX Runtime behind the same words as a network."""

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
"""Key of a file's metadata: which of its outputs are features, JSON."""
PART = 64
"""Images that a core answers at once where whole splits are answered; fixed, so that no answer hangs on how many cores there are."""


class Deployed:
    """A deployed ONNX file: raw pixels in, an answer out.

    Args:
        path: The file.
        threads: Threads of one run; None takes all cores.
        part: Cut batches into parts of so many images, each the work of one core; None has the cores share every layer of
            a whole batch. Parts are quicker where batches are large, and leave no threads that spin beside torch's.

    Attributes:
        metadata: What the file says about itself (class names, digests).
        outputs: Names of its answers.
        features: Names of the feature maps and vectors that it gives besides.
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
        """Features by name of a batch of uint8 images [batch, height, width, channels]."""
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
