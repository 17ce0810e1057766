"""`make ui`: show MLflow's and Prefect's pages for a project's own stores, until Ctrl-C.

Both listen on 127.0.0.1 only, since neither asks for a login.
"""

import os
import signal
import socket
import subprocess
import sys
import time

from temper.config import load
from temper.ops.project import Project
from temper.ops.system import subprocesses

MLFLOW_PORT, PREFECT_PORT = 5000, 4200
_HOST = "127.0.0.1"


def commands(project: Project) -> dict[str, list[str]]:
    """Return the commands to start, by the address of their pages."""
    artifacts = (project.runs / "artifacts").as_uri()
    mlflow = ["mlflow", "ui", "--host", _HOST, "--port", str(MLFLOW_PORT), "--workers", "1"]
    prefect = ["prefect", "server", "start", "--host", _HOST, "--port", str(PREFECT_PORT)]
    pages = {f"http://{_HOST}:{PREFECT_PORT}": prefect}
    if project.elsewhere is None:
        mlflow += ["--backend-store-uri", project.tracking_uri, "--default-artifact-root", artifacts]
        pages = {f"http://{_HOST}:{MLFLOW_PORT}": mlflow, **pages}
    return pages


def show(project: Project) -> int:
    """Start both, print their addresses, end both on Ctrl-C; returns the exit status."""
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.default_int_handler)
    busy = [port for port in (MLFLOW_PORT, PREFECT_PORT) if not _free(port)]
    if busy:
        print(
            f"error: port {busy[0]} is in use; stop the process that listens there, "
            f"perhaps another `{project.make('ui')}`",
            file=sys.stderr,
        )
        return 2
    if project.elsewhere is None and not project.database.is_file():
        print(
            f"error: {project.folder} has no runs yet; run `{project.make('pipeline')}` first",
            file=sys.stderr,
        )
        return 2
    project.prefect_home.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        **project.environment(),
        "PREFECT_API_URL": f"http://{_HOST}:{PREFECT_PORT}/api",
    }
    processes = []
    try:
        for address, command in commands(project).items():
            with (project.hidden / f"{command[0]}-ui.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        subprocesses.tied(command),
                        env=environment,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
            _wait(address, processes[-1])
            print(f"{command[0]:<8}{address}", flush=True)
        if project.elsewhere is not None:
            print(f"mlflow  {project.store}")
        for name, address in _find_pages(project).items():
            print(f"  {name:<28}{address}", flush=True)
        print("Ctrl-C stops the pages", flush=True)
        while all(process.poll() is None for process in processes):
            time.sleep(0.5)
        print(f"error: a server ended unexpectedly; see {project.hidden}/*-ui.log", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for process in processes:
            subprocesses.end_tree(process.pid, grace_s=5.0)


def _find_pages(project: Project) -> dict[str, str]:
    """Return the addresses of what people look at first, by what they show."""
    os.environ.update({**project.environment(), "PREFECT_API_URL": f"http://{_HOST}:{PREFECT_PORT}/api"})
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # its seven retries take minutes
    from temper.ops.mlflow import page_links, tracking_store
    from temper.ops.prefect import run_records

    pages = project.store.rstrip("/") if (project.elsewhere or "").startswith("http") else None
    found = {}
    if pages or project.elsewhere is None:
        try:
            name = load(project.folder).project
            client = tracking_store.connect(project)
            found = page_links.find_links(client, name, pages or f"http://{_HOST}:{MLFLOW_PORT}")
        except Exception as error:
            # The pages help to find out what was wrong, so they are shown anyway.
            print(f"no links to this project's runs: {project.redact(str(error))}", file=sys.stderr)
    card = project.reports / "card.html"
    if card.is_file():
        found["model card"] = card.as_uri()
    try:
        if last := run_records.find_last():
            found["last flow run"] = f"http://{_HOST}:{PREFECT_PORT}/runs/flow-run/{last}"
    except Exception as error:
        print(f"no link to the last flow run: {error}", file=sys.stderr)
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _wait(address: str, process: "subprocess.Popen[bytes]") -> None:
    """Return when a server listens at the address, or when the process has ended."""
    port = int(address.rsplit(":", 1)[1])
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((_HOST, port)) == 0:
                return
        time.sleep(0.2)
