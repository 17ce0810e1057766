"""What is the accuracy of a registered version? Measured from registry and raw files, without temper's code.

    python bench/registered.py [PROJECT] [VERSION]

Needs Fashion-MNIST's IDX files in the artifact of ingest, mlflow's client and onnxruntime. Prints the
accuracy of the version (default: the champion) on the official test images, and the accuracy in summary.json.
"""

import gzip
import json
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime

project = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
version = f"/{sys.argv[2]}" if len(sys.argv) > 2 else "@champion"
mlflow.set_tracking_uri(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
folder = Path(mlflow.artifacts.download_artifacts(f"models:/fashion-mnist{version}"))
raw = project / "artifacts" / "ingest"
images = np.frombuffer(
    gzip.decompress((raw / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16
).reshape(-1, 28, 28, 1)
labels = np.frombuffer(gzip.decompress((raw / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
names = json.loads(session.get_modelmeta().custom_metadata_map["temper.classes"])
official = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
answers = np.array([official.index(name) for name in names])[
    session.run(None, {"image": images})[0].argmax(axis=1)
]
accuracy = (answers == labels).mean()
print("registered", version, "accuracy", accuracy)
reported = json.loads((project / "reports" / "summary.json").read_text())["candidates"]["quantized"][
    "accuracy"
]["value"]
print("summary.json      accuracy", reported, "equal" if reported == accuracy else "DIFFERENT")
