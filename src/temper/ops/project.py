"""Where a project keeps what its runs leave, and the environment in which its processes run."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).parents[3]
"""The repository: where `flows`, `tasks` and `src` lie."""

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""The one place where what these libraries would send home is switched off."""

STORE, FILES = "TEMPER_MLFLOW_URI", "TEMPER_ARTIFACT_URI"
"""Variables with MLflow's address elsewhere (http://, https://, postgresql://), and where it keeps files (s3://..., a folder); `docs/production.md`."""
MARK = "TEMPER_PIPELINE"
"""Variable that every process of a pipeline carries, with the project's folder: how orphans are told from strangers."""


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml and dvc.yaml; everything a run leaves lies in it."""

    folder: Path
    """Absolute: MLflow and Prefect keep addresses, not working directories."""

    @classmethod
    def at(cls, folder: Path) -> "Project":
        """The project in a folder, given however the user wrote it."""
        return cls(folder.resolve())

    @property
    def artifacts(self) -> Path:
        """One folder per stage, DVC's outs."""
        return self.folder / "artifacts"

    @property
    def hidden(self) -> Path:
        """What only the machinery reads: work in progress, checkpoints, Prefect's home."""
        return self.folder / ".temper"

    @property
    def prefect_home(self) -> Path:
        """Prefect's database."""
        return self.hidden / "prefect"

    @property
    def reports(self) -> Path:
        """summary.json, latency.json, the card and the plots."""
        return self.folder / "reports"

    @property
    def runs(self) -> Path:
        """MLflow's database and artifact folder."""
        return self.folder / "mlruns"

    @property
    def database(self) -> Path:
        """MLflow's SQLite file."""
        return self.runs / "mlflow.db"

    @property
    def elsewhere(self) -> str | None:
        """MLflow's address where it is not the project's own database."""
        return os.environ.get(STORE) or None

    @property
    def tracking_uri(self) -> str:
        """MLflow's address. Always given: its default turns into a file store if `mlruns/<digits>/meta.yaml` exists."""
        return self.elsewhere or f"sqlite:///{self.database}"

    @property
    def store(self) -> str:
        """MLflow's address for people: without name and password."""
        if self.elsewhere is None:
            return str(self.database)
        parts = urlsplit(self.elsewhere)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def files(self) -> str | None:
        """Where MLflow keeps files; None leaves it to the server."""
        if FILES in os.environ:
            return os.environ[FILES]
        served = self.elsewhere is not None and self.elsewhere.startswith("http")
        return None if served else (self.runs / "artifacts").as_uri()

    def environment(self) -> dict[str, str]:
        """Variables of every process that works on this project."""
        return {
            **TELEMETRY_OFF,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            # Where its "Default" experiment would put files; without it, `mlruns` under the working directory.
            "_MLFLOW_SERVER_ARTIFACT_ROOT": self.files or (self.runs / "artifacts").as_uri(),
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            # It would watch which variables all threads read, and stumble over one that reads another at the wrong instant.
            "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
            # Its pages would start seven processes that wait for jobs nobody gives them.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            # Where a folder can hold no links, its cache takes more room; nothing else to say.
            "HF_HUB_DISABLE_SYMLINKS_WARNING": "1",
            "PREFECT_HOME": str(self.prefect_home),
            # Stages speak for themselves in the terminal; Prefect's own log goes to its server only.
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
            "PREFECT_CLI_WIKI_PROMPT": "false",
        }

    def child_environment(self) -> dict[str, str]:
        """The environment of a process started for this project, marked so that a later run finds it if it is orphaned."""
        return {**os.environ, **self.environment(), MARK: str(self.folder)}
