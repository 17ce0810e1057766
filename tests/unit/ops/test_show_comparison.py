"""The table of a comparison on a terminal of 80 columns."""

import io
from typing import Any

from rich.console import Console

from temper.ops.release.show_comparison import show


def row(metric: str, where: str, word: str) -> dict[str, Any]:
    numbers = {"first": 0.3304, "second": 0.3478, "difference": 0.0174, "low": -0.0261, "high": 0.085}
    return {"metric": metric, "where": where, "word": word, **numbers}


def test_no_number_is_cut_however_long_the_names_are():
    found = {
        "first": "version 11",
        "second": "version 12 (champion, challenger)",
        "images": 115,
        "confidence": 0.95,
        "scores": [row("worst_class_accuracy", "clean", "better"), row("pck", "a long name", "worse")],
        "strata": [row("pck", "upper right", "no difference shown")],
        "cells": [row("pck", "patch 1", "worse")],
        "changed": 0.25,
        "gained": None,
    }
    stream = io.StringIO()
    show(found, Console(file=stream, width=80))
    said = stream.getvalue()
    assert "…" not in said and said.count("-0.0261 to +0.0850") == 3
    assert all(word in said for word in ("version 11", "better", "worse", " no "))
    assert max(map(len, said.splitlines())) <= 80
