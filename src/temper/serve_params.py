"""Parameters of the server, in a module of their own so that they can be read without importing it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class ServeParams:
    """Port, processes and limits of the server."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Number of processes that answer requests; `auto` is one per core."""
    max_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    """Largest size of a request, in bytes. A larger one is answered with 413 and not read."""
    max_pixels: Annotated[int, Field(ge=1)] = 40_000_000
    """Largest number of pixels of an image, read from its header before it is decoded."""
    max_side_px: Annotated[int, Field(ge=1)] = 20_000
    """Largest width or height of an image."""
    max_images: Annotated[int, Field(ge=1)] = 256
    """Largest number of images in a request."""
    max_queue: Annotated[int, Field(ge=1)] = 1024
    """Largest number of waiting images. Further ones are answered with 503."""
    timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds from the arrival of a request to its answer; a later answer is 503. A connection that stays
    this long without a request, or within the head of one, is closed."""
    max_batch: Annotated[int, Field(ge=1)] = 64
    """Largest number of images in a batch. Waiting images form the next batch; there is no batching delay."""
    sample_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the images that are stored in the inbox, unlabelled, for the drift check; 0 stores none."""
    sample_mb: Annotated[float, Field(gt=0)] = 200.0
    """Largest size of the samples in the inbox, in MB. Beyond it no more are stored."""
