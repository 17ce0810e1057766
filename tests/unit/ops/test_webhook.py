"""The report of a retraining: a line, and a signed POST whose failure does not make the run fail."""

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from temper.config import Params, load
from temper.ops.project import Project
from temper.ops.retraining import webhook
from tests.project import make_project


class Ear(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((body, self.headers.get("X-Temper-Signature")))  # type: ignore[attr-defined]
        if isinstance(self.server.answer, bytes):  # type: ignore[attr-defined]
            self.wfile.write(self.server.answer)  # type: ignore[attr-defined]
            self.close_connection = True
            return
        self.send_response(self.server.answer)  # type: ignore[attr-defined]
        if self.server.answer == 302:  # type: ignore[attr-defined]
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ear() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        server.heard, server.answer = [], 204  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.at(make_project(tmp_path, "multiclass"))


def told(project: Project, webhook: str | None) -> Params:
    params = load(project.folder)
    return params.model_copy(update={"retrain": replace(params.retrain, webhook=webhook)})


@pytest.mark.enable_socket
def test_the_post_is_signed(project: Project, ear: HTTPServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(webhook.SECRET, "known to both")
    params = told(project, f"http://127.0.0.1:{ear.server_port}/hook")
    webhook.notify(project, params, "300 new examples; version 2", trained=True, failed=False)
    ((body, signature),) = ear.heard  # type: ignore[attr-defined]
    assert signature == "sha256=" + hmac.new(b"known to both", body, hashlib.sha256).hexdigest()
    value = json.loads(body)
    assert value.pop("time").endswith("Z")
    assert value == {
        "project": "toys-multiclass",
        "outcome": "trained",
        "message": "300 new examples; version 2",
        "champion": None,
    }


@pytest.mark.enable_socket
def test_without_a_secret_nothing_is_signed(
    project: Project, ear: HTTPServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(webhook.SECRET, raising=False)
    webhook.notify(
        project, told(project, f"http://127.0.0.1:{ear.server_port}/"), "x", trained=False, failed=True
    )
    ((body, signature),) = ear.heard  # type: ignore[attr-defined]
    assert signature is None and json.loads(body)["outcome"] == "failed"


@pytest.mark.enable_socket
@pytest.mark.parametrize("answer", [404, 500, 302])
def test_a_refused_post_is_a_line(
    project: Project, ear: HTTPServer, answer: int, capsys: pytest.CaptureFixture[str]
):
    ear.answer = answer  # type: ignore[attr-defined]
    webhook.notify(
        project, told(project, f"http://127.0.0.1:{ear.server_port}/"), "x", trained=True, failed=False
    )
    assert f"webhook could not be notified: HTTP Error {answer}" in capsys.readouterr().err
    assert len(ear.heard) == 1, "the signed message goes to no other address"  # type: ignore[attr-defined]


@pytest.mark.enable_socket
def test_an_answer_that_is_no_http_is_a_line(
    project: Project, ear: HTTPServer, capsys: pytest.CaptureFixture[str]
):
    ear.answer = b"SSH-2.0-hello\r\n"  # type: ignore[attr-defined]
    webhook.notify(
        project, told(project, f"http://127.0.0.1:{ear.server_port}/"), "x", trained=True, failed=False
    )
    assert "webhook could not be notified: SSH-2.0-hello" in capsys.readouterr().err


@pytest.mark.enable_socket
def test_a_server_that_takes_its_time_does_not_hold_up_the_run(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhook, "_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        webhook.notify(
            project,
            told(project, f"http://127.0.0.1:{silent.getsockname()[1]}/"),
            "x",
            trained=True,
            failed=False,
        )
    assert "webhook could not be notified: " in capsys.readouterr().err


@pytest.mark.enable_socket
def test_nobody_listens(project: Project, ear: HTTPServer, capsys: pytest.CaptureFixture[str]):
    ear.server_close()
    webhook.notify(
        project, told(project, f"http://127.0.0.1:{ear.server_port}/"), "x", trained=True, failed=False
    )
    out, err = capsys.readouterr()
    assert out == "retrain of toys-multiclass: trained: x\n" and "webhook could not be notified" in err


def test_without_a_webhook_it_is_a_line(project: Project, capsys: pytest.CaptureFixture[str]):
    webhook.notify(project, load(project.folder), "nothing new", trained=False, failed=False)
    assert capsys.readouterr().out == "retrain of toys-multiclass: not trained: nothing new\n"
