"""The trial of a seed: the state that a project starts from, the fault, and the time when it strikes."""

import random
from dataclasses import dataclass

from temper.stages import STAGES
from tests.faults import shim

KINDS = {"kill": 0.45, "write": 0.25, "damage": 0.2, "server": 0.1}
"""Kind of fault -> its share of the trials."""
STAGE_NAMES = tuple(stage.name for stage in STAGES)
_TRAINING = {stage.name for stage in STAGES if stage.ranked}
_WRITES = {"full disk": shim.FULL_DISK, "failed write": shim.FAILED_WRITE, "failed fsync": shim.FAILED_FSYNC}


@dataclass(frozen=True)
class Start:
    """The state of a project before the disturbed run: a finished project with something removed."""

    ranks: int
    worn: tuple[str, ...]
    """Stages that must run again: their artifacts are deleted, and DVC has no record of them."""
    nothing: bool
    """The project consists of params.yaml only."""
    tracking: bool
    """`mlruns/` exists."""
    prefect: bool
    """Prefect's database exists."""

    def __str__(self) -> str:
        if self.nothing:
            text = "from nothing"
        elif not self.worn:
            text = "finished"
        else:
            text = self.worn[0] if len(self.worn) == 1 else f"{self.worn[0]} to {self.worn[-1]}"
        missing = [
            name for name, there in (("mlruns", self.tracking), ("prefect", self.prefect)) if not there
        ]
        return text + "".join(f", no {name}" for name in missing) + (", 2 ranks" if self.ranks == 2 else "")


@dataclass(frozen=True)
class Plan:
    """One trial. Numbers between 0 and 1 are shares of quantities that are known only when the trial runs."""

    seed: int
    kind: str
    start: Start
    instant: float
    """Time of the fault, as a share of the run's expected seconds (or written bytes)."""
    how: str
    """Variant of the fault.

    kill: `once`, `twice`. write: `full disk`, `failed write`, `failed fsync`. damage: `flip`, `cut`,
    `delete`.
    """
    by: str
    """What determines the time of the fault. write: `bytes`, `time`; damage: `finished`, `killed`."""
    second: float
    """kill twice: time of the second kill, as a share of the repairing run's expected seconds."""

    @property
    def write_kind(self) -> int:
        """The shim's number for `how`."""
        return _WRITES[self.how]

    def generator(self, what: str) -> random.Random:
        """Return a random generator for a choice that can be made only while the trial runs."""
        return random.Random(f"{self.seed} {what}")

    def __str__(self) -> str:
        details = {
            "write": f"{self.how} by {self.by}",
            "damage": f"{self.how}, {self.by}",
            "kill": self.how,
            "server": "",
        }
        return f"{self.kind} {details[self.kind]}".strip() + f" | {self.start}"


def draw(seed: int) -> Plan:
    """Draw the trial of a seed."""
    generator = random.Random(seed)
    kind = generator.choices(list(KINDS), list(KINDS.values()))[0]
    how, by = "", ""
    if kind == "kill":
        how = generator.choices(["once", "twice"], [0.75, 0.25])[0]
    elif kind == "write":
        how = generator.choices(list(_WRITES), [0.6, 0.25, 0.15])[0]
        by = generator.choice(["bytes", "time"])
    elif kind == "damage":
        how = generator.choices(["flip", "cut", "delete"], [0.5, 0.35, 0.15])[0]
        by = generator.choices(["finished", "killed"], [0.6, 0.4])[0]
    start = _draw_start(generator)
    if by == "finished":
        start = Start(1, (), nothing=False, tracking=True, prefect=True)
    return Plan(seed, kind, start, generator.random(), how, by, generator.random())


def _draw_start(generator: random.Random) -> Start:
    if generator.random() < 0.06:
        return Start(1, STAGE_NAMES, nothing=True, tracking=False, prefect=False)
    weights = [3 if name in _TRAINING else 1 for name in STAGE_NAMES]
    first = generator.choices(range(len(STAGE_NAMES)), weights)[0]
    last = len(STAGE_NAMES) - 1 if generator.random() < 0.15 else first
    worn = STAGE_NAMES[first : last + 1]
    ranks = 2 if _TRAINING & {*worn} and generator.random() < 0.25 else 1
    return Start(
        ranks, worn, nothing=False, tracking=generator.random() > 0.2, prefect=generator.random() > 0.1
    )
