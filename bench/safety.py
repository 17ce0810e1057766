"""What does safety cost? The share of training time spent on checkpoints and on the guard against NaN.

    python bench/safety.py [PROJECT] [EPOCHS]        default: . and the project's epochs

Needs the project's artifacts (`make pipeline` first). Trains the teacher as the stage does, at the project's
checkpoint interval, and times every checkpoint and every call of the guard.
"""

import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from temper import artifacts
from temper.config import load, select
from temper.engine.checkpoints import Checkpoints
from temper.engine.nan_guard import Guard
from temper.stages import BY_NAME, train

spent: dict[str, list[float]] = {}


def clock(owner: type, name: str) -> None:
    """Wrap a method of a class so that every call is timed."""
    method, times = getattr(owner, name), spent.setdefault(f"{owner.__name__}.{name}", [])

    def timed(*arguments, **named):
        started = time.perf_counter()
        try:
            return method(*arguments, **named)
        finally:
            times.append(time.perf_counter() - started)

    setattr(owner, name, timed)


project = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
params = load(project)
chosen = select(params, BY_NAME["train"].params)
if len(sys.argv) > 2:
    chosen.train = dataclasses.replace(
        chosen.train, fit=dataclasses.replace(chosen.train.fit, epochs=int(sys.argv[2]))
    )
inputs = {name: artifacts.load(name, project / "artifacts" / name) for name in BY_NAME["train"].inputs}
for owner, name in ((Checkpoints, "save"), (Guard, "remember"), (Guard, "judge")):
    clock(owner, name)
with tempfile.TemporaryDirectory(dir=project) as folder:
    paths = {name: Path(folder) / name for name in ("out", "work", "checkpoints")}
    for path in paths.values():
        path.mkdir()
    started = time.perf_counter()
    out = paths.pop("out")
    train.run(chosen, inputs, out, project=project, **paths)
    total = time.perf_counter() - started
print(
    f"{total:.1f} s of training, checkpoints at the end of every epoch "
    f"and every {params.train.fit.checkpoint_s:.0f} s"
)
for name, times in spent.items():
    print(
        f"  {name:18s} n {len(times):5d}  median {1000 * median(times):8.2f} ms  "
        f"most {1000 * max(times):8.2f} ms  {sum(times) / total:7.3%}"
    )
