"""A deployed file at work: ONNX Runtime behind the same words as a network."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from temper.problem import Answer

onnxruntime.disable_telemetry_events()


class Deployed:
    """A deployed ONNX file: raw pixels in, an answer out.

    Args:
        path: The file.
        threads: Threads of one run; None takes all cores.

    Attributes:
        metadata: What the file says about itself (class names, digests).
        outputs: Names of its outputs.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.metadata: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)
        self.outputs = tuple(output.name for output in self.session.get_outputs())

    def __call__(self, images: np.ndarray) -> Answer:
        """Answer a batch of uint8 pictures [batch, height, width, channels]."""
        values = self.session.run(None, {"image": np.ascontiguousarray(images)})
        return {name: torch.from_numpy(value) for name, value in zip(self.outputs, values, strict=True)}
