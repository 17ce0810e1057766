"""scikit-learn's 1,797 handwritten digits, 8x8, grey. They are part of the package, so no network is needed.

The package stores 17 levels of ink, 0..16. They are spread over 0..255 (value * 255 / 16, rounded), without
loss.
"""

from pathlib import Path

import numpy as np

from temper.data.source_params import Digits
from temper.problem import Row


def fetch(params: Digits, project: Path, out: Path) -> list[Row]:
    """Write `images.npy` (uint8 [1797, 8, 8]) and `labels.npy`; the source fixes no splits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    np.save(out / "images.npy", np.rint(data.images * (255 / 16)).astype(np.uint8))
    np.save(out / "labels.npy", data.target.astype(np.uint8))
    return [Row(f"{i:04d}", f"images.npy#{i}", labels=(str(label),)) for i, label in enumerate(data.target)]
