"""The current model, and the alias that it follows.

A new version takes over between two batches, never within an answer.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson

from temper.artifacts import digest_file
from temper.fields import Field
from temper.inputs.clip_input import ClipInput
from temper.inputs.facts import Facts
from temper.inputs.image_input import ImageInput
from temper.inputs.stored import read_inputs
from temper.problems.deployed_answer import read_answer

onnxruntime.disable_telemetry_events()

_TRIES = 5


class Unanswerable(ValueError):
    """Inputs that a model cannot process."""


@dataclass(frozen=True)
class Place:
    """The location of a version."""

    name: str
    version: int
    digest: str
    """Required SHA-256 of the file."""
    file: Path


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded version."""

    place: Place
    session: onnxruntime.InferenceSession = field(repr=False)
    metadata: Mapping[str, str]

    @classmethod
    def load(cls, place: Place) -> "Model":
        """Load a version from its file.

        Raises:
            ValueError: If the file is missing, is not the registered one, or is not a deployable model.
        """
        if not place.file.is_file() or digest_file(place.file) != place.digest:
            raise ValueError(
                f"{place.file} is missing or is not the file that was registered "
                f"(SHA-256 {place.digest[:12]}...); it is not served"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # One core per batch: several batches are answered in parallel.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(
                str(place.file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions have no common base class
            raise ValueError(f"{place.file} cannot be read by ONNX Runtime: {error}") from error
        return cls(place, session, dict(session.get_modelmeta().custom_metadata_map))

    @cached_property
    def classes(self) -> list[str]:
        return list(json.loads(self.metadata["temper.classes"]))

    @cached_property
    def fields(self) -> dict[str, Field]:
        """What the outputs contain."""
        return read_answer(self.metadata)

    @cached_property
    def facts(self) -> Facts:
        """What the model takes, and how its inputs were read in training."""
        return read_inputs(self.metadata)

    @cached_property
    def alone(self) -> ImageInput | ClipInput | None:
        """The image or clip that the model takes; None if it takes something else, or something more."""
        first, *others = self.facts.values()
        return first if isinstance(first, ImageInput | ClipInput) and not others else None

    @cached_property
    def name(self) -> dict[str, Any]:
        """Description of the model, which is part of every answer."""
        place = self.place
        return {"name": place.name, "version": place.version, "digest": place.digest, "classes": self.classes}

    @cached_property
    def name_json(self) -> bytes:
        """`name` as JSON."""
        return orjson.dumps(self.name)

    @cached_property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return [output.name for output in self.session.get_outputs()]

    @cached_property
    def seconds(self) -> float:
        """Time for one example of the model's own size: the shortest of a few tries."""
        given, found = {name: each.example(1) for name, each in self.facts.items()}, []
        for _ in range(_TRIES):
            started = time.perf_counter()
            self.answer(given)
            found.append(time.perf_counter() - started)
        return min(found)

    def answer(self, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the answers to a batch of inputs by name, e.g. uint8 [batch, height, width, channels].

        Raises:
            Unanswerable: If the model cannot process inputs of these shapes.
        """
        try:
            return dict(zip(self.outputs, self.session.run(self.outputs, dict(given)), strict=True))
        except Exception as error:  # ONNX Runtime's own exceptions have no common base class
            reason = str(error).splitlines()[0][:300]
            shapes = ", ".join(f"{name} {list(column.shape[1:])}" for name, column in given.items())
            raise Unanswerable(
                f"the model cannot answer inputs of these shapes: {shapes}: {reason}"
            ) from error


class Follower:
    """Loads the model to which an alias points, and follows the alias.

    Args:
        look: Returns the version to which the alias points; None if it points nowhere.
        every_s: Seconds between two checks of the alias.
        say: Called with one line of text about each change.
    """

    def __init__(
        self, look: Callable[[], Place | None], *, every_s: float = 1.0, say: Callable[[str], object] = print
    ) -> None:
        self._look, self._every_s, self._say = look, every_s, say
        self.tell: Callable[[int], object] = lambda version: None
        """Called with the number of a version that takes over."""
        self._model: Model | None = None
        self._next: Model | None = None
        self._refused: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="alias", daemon=True)

    @property
    def model(self) -> Model | None:
        """The current model; a request reads it once and uses it for the whole answer."""
        return self._model

    @property
    def problem(self) -> str | None:
        """Reason why the version to which the alias points is not served; None if it is served."""
        return self._refused

    def start(self) -> None:
        """Load the first model, then follow the alias."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Stop following the alias."""
        self._stop.set()

    def look(self) -> None:
        """Check the alias once; switch to a new version, unless it cannot be served."""
        self._load_next()
        self._take_over()

    def _load_next(self) -> None:
        try:
            place = self._look()
        except Exception as error:  # whatever the registry raises, the current model stays
            self._refuse(f"the registry could not be read: {error}")
            return
        if place is None:
            self._refuse("no version has the alias")
            return
        if self._model is not None and place == self._model.place:
            self._refused = None
            return
        try:
            model = Model.load(place)
            # The first run allocates buffers; no client should wait for that.
            _ = model.seconds, model.name_json, model.fields, model.alone
        except (ValueError, KeyError) as error:
            self._refuse(f"version {place.version}: {error}")
            return
        self._next = model

    def _take_over(self) -> None:
        model, self._next = self._next, None
        if model is None:
            return
        self._model, self._refused = model, None
        self.tell(model.place.version)
        self._say(f"serving version {model.place.version} of {model.place.name} ({model.place.digest[:12]})")

    def _refuse(self, why: str) -> None:
        if why != self._refused:
            self._refused = why
            self._say(f"not served: {why}")

    def _follow(self) -> None:
        # By the clock, and one check after loading, so that all processes of a server switch at the same
        # moment.
        while not self._stop.wait(self._every_s - time.time() % self._every_s):
            self._take_over()
            self._load_next()
