"""Describe the machine, on which all times depend, without importing anything large."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_GPUS = Path("/proc/driver/nvidia/gpus")


def describe_processor() -> dict[str, Any]:
    """Return the name of the processor and the number of cores that this process may use."""
    lines = _CPUINFO.read_text(encoding="utf-8").splitlines() if _CPUINFO.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0))}


def describe_trainer() -> dict[str, Any]:
    """Return what the time of a training step depends on: processor, GPUs, version of torch."""
    gpus = [path.read_text(encoding="utf-8") for path in sorted(_GPUS.glob("*/information"))]
    models = [
        line.split(":", 1)[1].strip()
        for text in gpus
        for line in text.splitlines()
        if line.startswith("Model:")
    ]
    return {**describe_processor(), "gpus": models, "torch": version("torch")}
