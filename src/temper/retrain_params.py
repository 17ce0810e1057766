"""Parameters of retraining. Only `temper.ops` reads them."""

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError
from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class RetrainParams:
    """When a schedule trains again (`docs/retrain.md`)."""

    cron: str = "0 3 * * 1"
    """When `make schedule` looks for new images: minute, hour, day of the month, month, day of the week."""
    timezone: str = "UTC"
    """Time zone of `cron`, e.g. `Europe/Berlin`."""
    inbox: str = "inbox"
    """Folder in the project with `labelled/` for new images (class folders, or tables that name them) and
    `unlabelled/` for the drift check."""
    new_classes: Literal["ask", "allow"] = "ask"
    """Whether classes of the inbox become new classes of the dataset. `ask` leaves them there and says so."""
    min_new: Annotated[int, Field(ge=1)] = 1
    """Smallest number of new training examples that starts a training. Fewer examples wait."""
    cooldown_h: Annotated[float, Field(ge=0)] = 0.0
    """Number of hours after a training in which no other training starts."""
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Largest allowed probability that a drift check raises a false alarm."""
    drift_trains: bool = False
    """Whether drift starts a training if there are new examples, but fewer than `min_new`. Otherwise drift is
    only reported."""
    webhook: str | None = None
    """Address that receives the result of a retraining run by POST, signed with the secret in
    TEMPER_WEBHOOK_SECRET. A run in which no stage is stale sends nothing."""

    def __post_init__(self) -> None:
        try:
            CronSim(self.cron, datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(
                f"cron = {self.cron!r}: {str(error).lower()}; for example, '0 3 * * 1' is Mondays at 03:00"
            ) from None
        if self.timezone not in available_timezones():
            near = difflib.get_close_matches(self.timezone, available_timezones(), 1)
            example = near[0] if near else "Europe/Berlin"
            raise ValueError(f"timezone = {self.timezone!r}: must be a known time zone, e.g. {example}")
        if Path(self.inbox).is_absolute() or ".." in Path(self.inbox).parts or not Path(self.inbox).parts:
            raise ValueError(f"inbox = {self.inbox!r}: must be a relative path inside the project")
        if self.webhook is not None and not self.webhook.startswith(("http://", "https://")):
            raise ValueError(f"webhook = {self.webhook!r}: must start with https:// or http://")
