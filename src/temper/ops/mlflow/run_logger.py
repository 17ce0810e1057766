"""Logs to MLflow tracking: one parent run per pipeline run, and one child run per candidate.

The children have the same metric names, so that MLflow's charts compare teacher, student and quantized. A
child is created when its training starts (its curves grow while it trains) or, if nothing was trained, when
it is measured. Modules that import MLflow, such as this one, are imported only when there is something to
record.
"""

import csv
import getpass
import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from temper import artifacts
from temper.artifacts import DEPLOYED, Artifact
from temper.config import Params
from temper.make_command import ROOT
from temper.ops import dvc
from temper.ops.candidates import CANDIDATES
from temper.ops.mlflow import page_links, tracking_store
from temper.ops.mlflow.curves import Curve, Point, follow, read_curves
from temper.ops.project import Project
from temper.ops.system.process_identity import Owner

_TRAINED = {stage: candidate for candidate, stage in CANDIDATES.items() if stage != "quantize"}
_MAX_PARAM = 6000
_BATCH = 1000
_SYSTEM_EVERY_S = 2.0
_CONTINUES, _CONTINUED = "temper.continues", "temper.continued_by"
"""Tags that link an interrupted run with the run that continued its work; their values are run ids."""


class Record:
    """One pipeline run in MLflow; no run is created before `begin`.

    Args:
        project: Project in whose store the run is logged.
        params: Parameters of the run.
        name: Name of the parent run.
        note: Description of the parent run, in Markdown.
    """

    def __init__(self, project: Project, params: Params, name: str, note: str = "") -> None:
        self.project, self.params, self.name, self.note = project, params, name, note
        self.client = tracking_store.connect(project)
        self.experiment = tracking_store.open_experiment(self.client, project, params.project)
        self.reaped = tracking_store.close_dead(self.client, self.experiment)
        self.parent: str | None = None
        self.children: dict[str, str] = {}
        self._curves: dict[str, Curve] = {}
        self._trained_here: set[str] = set()
        self._began_ms: dict[str, int] = {}
        self._monitors: dict[str, SystemMetricsMonitor] = {}

    def begin(self) -> str:
        """Create the parent run if it does not exist yet; returns its id."""
        if self.parent is None:
            before = self._link_interrupted()
            self.parent = self._start(
                self.name, {tracking_store.MINE: "pipeline", "mlflow.note.content": self.note, **before}
            )
            if before:
                self.client.set_tag(before[_CONTINUES], _CONTINUED, self.parent)
            self._log_params(self.parent, flatten(self.params.model_dump(mode="json")))
            self._watch(self.parent)
        return self.parent

    def _link_interrupted(self) -> dict[str, str]:
        """Return the tag that names the previous pipeline run, if that run did not finish."""
        last = self.client.search_runs(
            [self.experiment], f"tags.`{tracking_store.MINE}` = 'pipeline'", max_results=1
        )
        return {_CONTINUES: last[0].info.run_id} if last and last[0].info.status != "FINISHED" else {}

    def child(self, candidate: str) -> str:
        """Return the id of a candidate's child run, which is created at the first call."""
        if self.parent is None:
            raise AssertionError("call begin before child: the parent run does not exist yet")
        if candidate not in self.children:
            tags = {tracking_store.MINE: candidate, "candidate": candidate, "mlflow.parentRunId": self.parent}
            if candidate in _TRAINED.values() and candidate not in self._trained_here:
                tags["mlflow.note.content"] = (
                    "Trained by an earlier run and measured by this one; the curves are copies."
                )
            began_ms = self._began_ms.get(candidate) if candidate in self._trained_here else None
            run = self.children[candidate] = self._start(candidate, tags, began_ms)
            self._curves[candidate] = Curve(lambda points: self._log_points(run, points))
            # Without the section's name: MLflow's comparison then shows teacher and student in the same rows.
            tree = self.params.model_dump(mode="json")
            self._log_params(
                run,
                flatten({"seed": tree["seed"], "problem": tree["problem"], **tree[CANDIDATES[candidate]]}),
            )
            self._add_data(run, "calibration" if candidate == DEPLOYED else "training")
        return self.children[candidate]

    @contextmanager
    def training(self, stage: str) -> Iterator[None]:
        """Log a stage's curves and the machine's load while it runs, if the stage trains."""
        candidate = _TRAINED.get(stage)
        if candidate is None:
            yield
            return
        with follow(
            self.project.hidden / "work" / stage / "journal.jsonl",
            lambda points: self._live(candidate).add(points),
        ):
            try:
                yield
            finally:
                self._unwatch(self.children.get(candidate))

    def finish_child(self, stage: str) -> None:
        """Complete the curves of a training that really ran, and end its run."""
        if candidate := _TRAINED.get(stage):
            self._trained_here.add(candidate)
            self._add_curves(candidate)
            self.client.set_terminated(self.children[candidate])

    def add_evaluation(self) -> None:
        """Log each candidate's results to its run, and the report to the parent and the registered one."""
        evaluated = artifacts.load("evaluate", self.project.artifacts / "evaluate", check_files=False)
        for candidate in CANDIDATES:
            self._add_curves(candidate)
            values, by_severity = self._scores(evaluated, candidate)
            self._log_values(self.child(candidate), values)
            self._log_points(self.child(candidate), by_severity)
            if candidate == DEPLOYED:
                # So that pipeline runs can be compared without expanding them.
                main = {name: value for name, value in values.items() if "severity" not in name}
                parent = {f"{candidate}/{name}": value for name, value in main.items()}
                self._log_values(self.begin(), parent)
                stressed = [name for name in main if name.startswith("stress/")]
                columns = [evaluated.facts["headline"], *stressed, "bytes", "latency_ms"]
                page_links.save_columns(self.client, self.experiment, columns)
        self._add_data(self.begin(), "pipeline")
        for run in filter(None, (self.parent, self.children.get(DEPLOYED))):
            for name in ("card.html", "card.md", "latency.json"):
                self.client.log_artifact(run, str(self.project.reports / name))
            if (self.project.reports / "plots").is_dir():
                self.client.log_artifacts(run, str(self.project.reports / "plots"), "plots")

    def add_note(self, text: str) -> None:
        """Prepend a note to the parent run's description."""
        self.note = f"{text}\n\n{self.note}"
        if self.parent is not None:
            self.client.set_tag(self.parent, "mlflow.note.content", self.note)

    def add_seconds(self, step: str, seconds: float) -> None:
        """Log the duration of a step to the parent run."""
        self._log_values(self.begin(), {f"seconds/{step}": seconds})

    def end(self, status: str, why: str = "") -> None:
        """End every run that was begun, with the status FINISHED, FAILED or KILLED."""
        for watched in list(self._monitors):
            self._unwatch(watched)
        for run in (*self.children.values(), self.parent):
            if run is None or self.client.get_run(run).info.status != "RUNNING":
                continue
            if why:
                self.client.set_tag(run, "error", why[:5000])
            self.client.set_terminated(run, status)
        if status == "FINISHED" and self.parent is not None and not self.children:
            # Everything was restored from DVC's cache and is registered: the run has nothing new to show.
            self.client.delete_run(self.parent)

    def _live(self, candidate: str) -> Curve:
        """Return the curve of a candidate that is being trained, and log the machine's load to its run."""
        self._trained_here.add(candidate)
        run = self.child(candidate)
        self._watch(run)
        return self._curves[candidate]

    def _add_curves(self, candidate: str) -> None:
        self.child(candidate)
        path = self.project.artifacts / CANDIDATES[candidate] / "curves.csv"
        if path.is_file():
            self._curves[candidate].add(read_curves(path))

    def _scores(self, evaluated: Artifact, candidate: str) -> tuple[dict[str, float], list[Point]]:
        """Return all results of a candidate, under names that are readable in a chart.

        Returns:
            Single values, and for each condition the score over severity (the severity is the step).
        """
        entry, headline = evaluated.facts["candidates"][candidate], evaluated.facts["headline"]
        values: dict[str, float] = {headline: entry[headline]["value"]}
        values |= {f"{headline}_{bound}": entry[headline][bound] for bound in ("low", "high")}
        values |= {f"stress/{family}": score["value"] for family, score in entry["stress"].items()}
        values |= {name: entry[name] for name in ("bytes", "params", "macs")}
        timed = json.loads((self.project.reports / "latency.json").read_text(encoding="utf-8"))["candidates"][
            candidate
        ]
        values |= {name: timed[name]["median"] for name in ("latency_ms", "images_per_s")}
        by_severity = []
        with evaluated.path("scores.csv").open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                # Rows without a severity are a family's mean, which is in `values` already.
                wanted = row["candidate"] == candidate and row["metric"] == headline and row["severity"]
                if wanted and row["family"] in entry["stress"]:
                    name = f"{row['family']}/{row['condition'].replace(' ', '_')}"
                    values[f"{name}/severity_{row['severity']}"] = float(row["value"])
                    by_severity.append(Point(name, int(row["severity"]), float(row["value"]), None))
        return values, by_severity

    def _add_data(self, run: str, context: str) -> None:
        """Log the dataset as an input of a run, under the digest by which DVC finds it."""
        digest = dvc.out_digest(self.project, "prepare")
        prepared = artifacts.load("prepare", self.project.artifacts / "prepare", check_files=False)
        data = Dataset(
            name=self.params.project,
            digest=digest or prepared.digest[:36],
            source_type="dvc",
            source=json.dumps({"uri": "artifacts/prepare", "raw": dvc.out_digest(self.project, "ingest")}),
            schema=json.dumps({"problem": prepared.facts["problem"]}),
            profile=json.dumps(prepared.facts["examples"]),
        )
        self.client.log_inputs(run, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])

    def _start(self, name: str, tags: dict[str, str], began_ms: int | None = None) -> str:
        tags = {**tags, **_source(), "mlflow.user": getpass.getuser(), tracking_store.OWNER: str(Owner.me())}
        return str(self.client.create_run(self.experiment, began_ms, tags, name).info.run_id)

    def _log_params(self, run: str, values: dict[str, str]) -> None:
        self.client.log_batch(
            run, params=[Param(legal(name), value[:_MAX_PARAM]) for name, value in values.items()]
        )

    def _log_values(self, run: str, values: dict[str, float]) -> None:
        now = round(time.time() * 1000)
        self._log_points(
            run, [Point(name, 0, float(value), now) for name, value in values.items() if value is not None]
        )

    def _log_points(self, run: str, points: list[Point]) -> None:
        now = _now_ms()
        metrics = [
            Metric(legal(point.name), point.value, point.time_ms or now, point.step) for point in points
        ]
        for start in range(0, len(metrics), _BATCH):
            self.client.log_batch(run, metrics=metrics[start : start + _BATCH])

    def _watch(self, run: str) -> None:
        """Start to log the machine's load to a run."""
        if run not in self._monitors:
            self._monitors[run] = SystemMetricsMonitor(
                run, sampling_interval=_SYSTEM_EVERY_S, tracking_uri=self.project.tracking_uri
            )
            self._monitors[run].start()

    def _unwatch(self, run: str | None) -> None:
        if run in self._monitors:
            self._monitors.pop(run).finish()


def flatten(tree: Any, where: str = "") -> dict[str, str]:
    """Flatten a tree of parameters to `train.fit.epochs` -> `12`; a list of plain values becomes `16, 32`."""
    if isinstance(tree, dict) and tree:
        parts = [flatten(value, f"{where}.{name}" if where else str(name)) for name, value in tree.items()]
        return {name: value for part in parts for name, value in part.items()}
    if isinstance(tree, list) and not any(isinstance(item, list | dict) for item in tree):
        return {where: ", ".join(map(str, tree)) or "none"}
    return {where: json.dumps(tree, ensure_ascii=False) if isinstance(tree, list | dict) else str(tree)}


def legal(name: str) -> str:
    """Return a name that MLflow accepts.

    Allowed are letters, digits, `_ - . : /` and spaces, without empty parts between slashes.
    """
    return re.sub(r"/+", "/", re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)).strip("/") or "_"


def _source() -> dict[str, str]:
    """Return tags that identify the code that ran; empty outside git."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    if head.returncode:
        return {}
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "mlflow.source.git.commit": head.stdout.strip(),
        "git.uncommitted_files": str(len(changed.stdout.splitlines())),
        "mlflow.source.name": "flows/pipeline.py",
        "mlflow.source.type": "LOCAL",
    }


def _now_ms() -> int:
    return round(time.time() * 1000)
