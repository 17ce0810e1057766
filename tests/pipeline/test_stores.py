"""MLflow behind a server with passwords, and Prefect; both store in a real PostgreSQL on loopback."""

import functools
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.project import free_port, make_project, tell

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not BINARIES, reason="PostgreSQL is not installed (apt-get install postgresql)"),
]


@dataclass(frozen=True)
class Stores:
    environment: dict[str, str]
    secrets: tuple[str, ...]
    log: Path


def as_postgres(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command as the user postgres if this process is root, since PostgreSQL refuses to run as root."""
    user = (
        {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid, "extra_groups": []}
        if os.getuid() == 0
        else {}
    )
    return subprocess.run(command, check=True, capture_output=True, text=True, **user, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, shared_cache: dict[str, str]) -> Iterator[Stores]:
    # The path of a socket must be short, and the folder belongs to another user.
    folder = Path("/tmp") / f"temper-postgres-{os.getpid()}"
    folder.mkdir(mode=0o755)
    data, port, password, admin = folder / "data", free_port(), secrets.token_hex(12), secrets.token_hex(12)
    (folder / "password").write_text(password)
    if os.getuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")
    server = None
    try:
        as_postgres(
            str(BINARIES[-1] / "initdb"),
            "-D",
            str(data),
            "-U",
            "temper",
            "--auth=scram-sha-256",
            f"--pwfile={folder / 'password'}",
            "-N",
        )
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        as_postgres(
            str(BINARIES[-1] / "pg_ctl"),
            "-D",
            str(data),
            "-o",
            options,
            "-l",
            str(folder / "log"),
            "-w",
            "start",
        )
        address = f"temper:{password}@127.0.0.1:{port}"
        for name in ("mlflow", "users", "prefect"):
            as_postgres(
                str(BINARIES[-1] / "createdb"),
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-U",
                "temper",
                name,
                env={**os.environ, "PGPASSWORD": password},
            )
        mine = tmp_path_factory.mktemp("mlflow")
        (mine / "auth.ini").write_text(
            "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
            f"database_uri = postgresql+pg8000://{address}/users\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            # Without it MLflow hashes the password at each of 240 requests of a run, on purpose slowly.
            "auth_cache_ttl_seconds = 60\n"
        )
        web = free_port()
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--app-name",
            "basic-auth",
            "--host",
            "127.0.0.1",
            "--port",
            str(web),
            "--workers",
            "1",
        ]
        command += [
            "--backend-store-uri",
            f"postgresql+pg8000://{address}/mlflow",
            "--artifacts-destination",
            str(mine / "files"),
        ]
        environment = {
            **os.environ,
            "MLFLOW_AUTH_CONFIG_PATH": str(mine / "auth.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": admin,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with (mine / "log").open("wb") as log:
            server = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=mine, start_new_session=True
            )
        wait(f"http://127.0.0.1:{web}/health", server, mine / "log")
        yield Stores(
            {
                **shared_cache,
                "TEMPER_MLFLOW_URI": f"http://127.0.0.1:{web}",
                "MLFLOW_TRACKING_USERNAME": "admin",
                "MLFLOW_TRACKING_PASSWORD": admin,
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{address}/prefect",
            },
            (password, admin),
            mine / "log",
        )
    finally:
        if server is not None:
            os.killpg(server.pid, 15)
            server.wait()
        if (data / "postmaster.pid").exists():
            as_postgres(str(BINARIES[-1] / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def wait(url: str, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.3)


@pytest.mark.enable_socket
def test_a_chain_on_postgresql(stores: Stores, tmp_path: Path):
    on_stores = functools.partial(tell, environment=stores.environment)
    # No other project trains for three epochs, so the curves are logged while these trainings run.
    project = make_project(tmp_path / "project", "multiclass", epochs=3, families="noise")
    said = on_stores(project, "pipeline")
    assert "train: done" in said and "distill: done" in said
    assert "version 1 of toys-multiclass (challenger, champion): bootstrap" in said
    assert not (project / "mlruns" / "mlflow.db").exists()
    assert not (project / ".temper" / "prefect" / "prefect.db").exists()
    said += on_stores(project, "pipeline")
    assert "nothing to do: every stage is up to date and the model is registered" in said

    (project / "params.yaml").write_text(
        (project / "params.yaml").read_text().replace("images: 64", "images: 16")
    )
    said += on_stores(project, "pipeline")
    assert "version 2 of toys-multiclass" in said
    said += on_stores(project, "compare", "--first", "1", "--second", "2")
    said += on_stores(project, "promote", "--version", "2", "--reason", "for the test")
    said += on_stores(project, "rollback")
    story = on_stores(project, "history")
    assert "back to version 1 (champion before: 2)" in story

    files = [path for path in project.rglob("*") if path.is_file() and path.stat().st_size < 50e6]
    assert len(files) > 50
    for secret in stores.secrets:
        assert secret not in said + story
        assert not [path for path in files if secret.encode() in path.read_bytes()], (
            "a file of the project contains a password"
        )


@pytest.mark.enable_socket
def test_a_wrong_password_is_told_in_a_line(stores: Stores, tmp_path: Path):
    project = make_project(tmp_path / "project", "multiclass")
    environment = stores.environment | {"MLFLOW_TRACKING_PASSWORD": "wrong"}
    said = tell(project, "compare", code=2, environment=environment)
    assert "error: MLflow could not" in said and "Traceback" not in said
