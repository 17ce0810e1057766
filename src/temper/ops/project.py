"""The folders of a project, and the environment of the processes that work on it."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from temper.make_command import PROJECT, make_command

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""Variables that switch off the telemetry of these libraries; no other place sets them."""

STORE, FILES = "TEMPER_MLFLOW_URI", "TEMPER_ARTIFACT_URI"
"""Variables for an external MLflow: its address and the place of its files; see `docs/production.md`.

The address is http://, https:// or postgresql://. Files are in s3://... or in a folder.
"""
MARK = "TEMPER_PIPELINE"
"""Variable that every process of a pipeline carries; its value is the project's folder.

It distinguishes orphaned processes of the project from unrelated processes.
"""


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml and dvc.yaml. Everything that a run writes is stored in it."""

    folder: Path
    """Absolute path, since MLflow and Prefect store addresses, not working directories."""

    @classmethod
    def at(cls, folder: Path) -> "Project":
        """Return the project in a folder, which may be a relative path."""
        return cls(folder.resolve())

    def make(self, target: str) -> str:
        """Return the command for a target of the Makefile, for messages (`make_command.py`)."""
        return make_command(target, self.folder)

    @property
    def artifacts(self) -> Path:
        """Folder with one folder per stage; these are DVC's outs."""
        return self.folder / "artifacts"

    @property
    def hidden(self) -> Path:
        """Folder for internal files: work in progress, checkpoints, Prefect's home."""
        return self.folder / ".temper"

    @property
    def prefect_home(self) -> Path:
        """Folder of Prefect's database."""
        return self.hidden / "prefect"

    @property
    def reports(self) -> Path:
        """Folder with summary.json, latency.json, the model card and the plots."""
        return self.folder / "reports"

    @property
    def runs(self) -> Path:
        """Folder with MLflow's database and artifacts."""
        return self.folder / "mlruns"

    @property
    def database(self) -> Path:
        """MLflow's SQLite file."""
        return self.runs / "mlflow.db"

    @property
    def elsewhere(self) -> str | None:
        """Address of an external MLflow, or None if MLflow uses the project's own database."""
        return os.environ.get(STORE) or None

    @property
    def tracking_uri(self) -> str:
        """MLflow's address.

        It is always set explicitly, since MLflow's default becomes a file store if
        `mlruns/<digits>/meta.yaml` exists.
        """
        return self.elsewhere or f"sqlite:///{self.database}"

    @property
    def store(self) -> str:
        """MLflow's address for messages: without user name and password."""
        return str(self.database) if self.elsewhere is None else self.redact(self.elsewhere)

    def redact(self, text: str) -> str:
        """Return a message without the user name and password in MLflow's address."""
        user, at, _ = urlsplit(self.elsewhere or "").netloc.rpartition("@")
        return text.replace(f"{user}{at}", "") if at else text

    @property
    def files(self) -> str | None:
        """Address where MLflow stores files; None leaves the choice to MLflow's server."""
        if FILES in os.environ:
            return os.environ[FILES]
        served = self.elsewhere is not None and self.elsewhere.startswith("http")
        return None if served else (self.runs / "artifacts").as_uri()

    def environment(self) -> dict[str, str]:
        """Return the variables of every process that works on this project."""
        return {
            **TELEMETRY_OFF,
            PROJECT: str(self.folder),
            # Prefect's and MLflow's servers of this machine are not behind the proxy of the network.
            **{name: _with_loopback(os.environ.get(name, "")) for name in ("NO_PROXY", "no_proxy")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            # Folder for MLflow's "Default" experiment; its own choice is `mlruns` in the working directory.
            "_MLFLOW_SERVER_ARTIFACT_ROOT": self.files or (self.runs / "artifacts").as_uri(),
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            # MLflow would watch the variables that all threads read, and fail if a thread reads another
            # variable at the wrong moment.
            "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
            # MLflow's pages would start seven processes that wait for jobs, and there are none.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            # The warning only says that the cache needs more space on file systems without links.
            "HF_HUB_DISABLE_SYMLINKS_WARNING": "1",
            "PREFECT_HOME": str(self.prefect_home),
            # Stages print to the terminal themselves, so Prefect's log goes only to its server.
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
            "PREFECT_CLI_WIKI_PROMPT": "false",
        }

    def child_environment(self) -> dict[str, str]:
        """Return the environment of a process for this project, with the mark that identifies orphans."""
        return {**os.environ, **self.environment(), MARK: str(self.folder)}


def _with_loopback(hosts: str) -> str:
    """Return a list of hosts for `NO_PROXY` that contains this machine's own addresses."""
    known = [host.strip() for host in hosts.split(",") if host.strip()]
    return ",".join(dict.fromkeys([*known, "localhost", "127.0.0.1", "::1"]))
