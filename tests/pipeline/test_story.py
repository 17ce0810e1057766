"""The whole life of a model, on handwritten digits.

A first champion, new images, a better model under load, wrong labels, a rollback, and the history of these.
"""

import functools
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.project import ROOT, free_port, tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
PARAMS = """
project: life
seed: 0
problem: {kind: multiclass}
ingest: {source: imagefolder, folder: images}
prepare: {height_px: 8, width_px: 8, validation_share: 0.15}
augment: {balance: {method: none}}
train:
  backbone: {family: small-resnet, widths: [16, 32, 64], depths: [1, 1, 1]}
  views: {crop_px: 1}
  fit: {epochs: 10, batch_size: 64, lr: 0.1, average_decay: 0.98}
distill:
  backbone: {family: small-resnet, widths: [16, 24], depths: [1, 1]}
  views: {crop_px: 1}
  fit: {epochs: 10, batch_size: 64, lr: 0.2, average_decay: 0.98}
  terms: {share: 0.7, temperature: 2.0, logits: z-scored}
quantize: {calibration_images: 128, parity_images: 100}
evaluate: {families: [noise], stress_images: 100, bootstrap: 200}
gate:
  rules:
    - {metric: accuracy, max_drop: 0.05, vs: champion}
    - {metric: accuracy, min: 0.8}
retrain: {min_new: 100}
"""
TEST, FIRST, NEWS = 450, 450, 150


def write(folder: Path, numbers: range, digits: object, labels: np.ndarray) -> None:
    """Write images that are old enough to be imported: ten seconds."""
    for number in numbers:
        path = folder / f"digit-{labels[number]}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), (digits.images[number] * 15.9).astype(np.uint8))
        os.utime(path, (time.time() - 10,) * 2)


class Load:
    """A client that sends requests all the time and records the version of every answer."""

    def __init__(self, url: str, image: bytes) -> None:
        self.url, self.image = url, image
        self.versions: list[int] = []
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                request = urllib.request.Request(
                    f"{self.url}/predict", self.image, {"Content-Type": "image/png"}
                )
                with urllib.request.urlopen(request, timeout=30) as response:
                    self.versions.append(json.load(response)["model"]["version"])
            except (OSError, ValueError, KeyError) as error:
                self.errors.append(repr(error))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def serving(project: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "temper", "serve", "--project", str(project), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as server:
        try:
            url, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"{url}/ready", timeout=5).close()
                    break
                except (OSError, urllib.error.HTTPError):
                    assert server.poll() is None and time.monotonic() < until, "the server does not answer"
                    time.sleep(0.2)
            yield url
        finally:
            server.terminate()


def wait_for(load: Load, version: int) -> None:
    until = time.monotonic() + 20
    while load.versions[-1:] != [version]:
        assert time.monotonic() < until, (
            f"the server did not follow to version {version}: {load.versions[-3:]}"
        )
        time.sleep(0.1)


@pytest.mark.enable_socket
def test_a_life(tmp_path: Path, prefect_server: dict[str, str]):
    project, digits = tmp_path / "project", load_digits()
    run = functools.partial(tell, project, environment=prefect_server)
    project.mkdir()
    (project / "params.yaml").write_text(PARAMS)
    order = np.random.default_rng(0).permutation(len(digits.images))
    digits.images, truth = digits.images[order], digits.target[order]
    folder, inbox = project / "images", project / "inbox" / "labelled"
    write(folder / "test", range(TEST), digits, truth)
    write(folder / "train", range(TEST, TEST + FIRST), digits, truth)

    said = run("pipeline")
    assert "version 1 of life (challenger, champion): bootstrap: there was no champion" in said

    few = range(TEST + FIRST, TEST + FIRST + 40)
    write(inbox, few, digits, truth)
    said = run("retrain", "--scheduled")
    assert "40 new examples from the inbox" in said
    assert re.search(r"not training: \d+ new training examples, fewer than retrain.min_new = 100", said)

    image = next((folder / "test").glob("*/*.png")).read_bytes()
    with serving(project) as url, Load(url, image) as load:
        write(inbox, range(few.stop, few.stop + NEWS), digits, truth)
        said = run("retrain", "--scheduled")
        assert "version 2 of life (challenger, champion): pass: 2 rules held" in said, said[-3000:]
        wait_for(load, 2)

        poisoned = range(few.stop + NEWS, len(digits.images))
        # A mistake in a user's table: every label is replaced by the next one.
        write(inbox, poisoned, digits, (truth + 1) % 10)
        said = run("retrain", "--scheduled")
        assert (
            "version 3 of life (challenger): fail: accuracy on all test images "
            "not worse than the champion's by more than 0.05" in said
        ), said[-3000:]
        assert "images gained" in said

        assert "the gate rejects version 3" in run("promote", code=2)
        said = run("compare")
        assert "version 3 (challenger) against version 2 (champion)" in said and "worse" in said
        assert (project / "reports" / "compare-2-3" / "comparison.png").stat().st_size > 10_000
        assert load.versions[-1] == 2

        said = run("rollback", "--reason", "a customer complained")
        assert "rolled back to version 1 (champion before: 2): a customer complained" in said
        wait_for(load, 1)
    assert not load.errors, load.errors[:3]
    assert len(load.versions) > 100 and [
        a for a, b in zip(load.versions, load.versions[1:], strict=False) if a != b
    ] == [1, 2]

    story = run("history").splitlines()
    assert [re.sub(r"^\S+ \S+  \S+  ", "", line).split(":")[0] for line in story] == [
        "version 1 became champion",
        "version 2 became champion (champion before",
        "version 3 stayed challenger, champion is still 2",
        "rolled back to version 1 (champion before",
    ]
    assert "retrain: not training: nothing new" in run("retrain", "--scheduled")
