"""Metrics for Prometheus, summed over all processes of a server.

The processes share a folder. PROMETHEUS_MULTIPROC_DIR must name it before prometheus_client is first
imported.
"""

import os
import re
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Metrics of one process of a server."""

    def __init__(self) -> None:
        self._shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self._registry = CollectorRegistry()
        own = self._registry
        self._requests = Counter("temper_requests", "Requests by status", ["status"], registry=own)
        self._images = Counter("temper_images", "Images answered, by version", ["version"], registry=own)
        self._seconds = Histogram(
            "temper_request_seconds", "Time from arrival to answer", buckets=_SECONDS, registry=own
        )
        self._batches = Counter("temper_batches", "Batches answered", registry=own)
        self._waiting = Gauge(
            "temper_waiting_images", "Waiting images", multiprocess_mode="livesum", registry=own
        )
        self._version = Gauge(
            "temper_model_version", "Version of the current model", multiprocess_mode="livemin", registry=own
        )
        self._children: dict[tuple[Counter, int], Counter] = {}
        self._remove_dead_processes()

    def ended(self, status: int, seconds: float, waiting: int) -> None:
        """Count a request that was answered or refused, and set the number of waiting images."""
        self._child(self._requests, status).inc()
        self._seconds.observe(seconds)
        self._waiting.set(waiting)

    def answered(self, version: int, images: int) -> None:
        """Count images that a version answered."""
        self._child(self._images, version).inc(images)

    def batch(self) -> None:
        """Count an answered batch."""
        self._batches.inc()

    def serves(self, version: int) -> None:
        """Set the version of the current model."""
        self._version.set(version)

    def page(self) -> bytes:
        """Return the metrics of all processes together, in Prometheus' text format."""
        if self._shared is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, self._shared)
        return generate_latest(together)

    def _child(self, of: Counter, label: int) -> Counter:
        found = self._children.get((of, label))
        if found is None:
            found = self._children[of, label] = of.labels(str(label))
        return found

    def _remove_dead_processes(self) -> None:
        """Remove the live gauges of dead processes, which cannot reset them."""
        for file in Path(self._shared).glob("gauge_live*.db") if self._shared else ():
            found = re.search(r"_(\d+)\.db$", file.name)
            if found and not psutil.pid_exists(int(found[1])):
                mark_process_dead(int(found[1]), self._shared)
