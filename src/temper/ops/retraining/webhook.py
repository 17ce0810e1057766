"""Tell what came of a scheduled run: a line in the terminal, and, if an address is set, a signed POST."""

import hashlib
import hmac
import json
import os
import sys
import threading
import time
import urllib.request
from http.client import HTTPException
from typing import Any

from temper.config import Params
from temper.ops.mlflow import model_versions
from temper.ops.project import Project

SECRET = "TEMPER_WEBHOOK_SECRET"
"""Environment variable with the secret that both sides know; with it `X-Temper-Signature` is sha256=HMAC of the body."""
_TIMEOUT_S = 10.0


def notify(project: Project, params: Params, message: str, *, trained: bool, failed: bool) -> None:
    """Say what came of it; a webhook that cannot be reached is a line on standard error, and nothing else fails."""
    outcome = "failed" if failed else "trained" if trained else "not trained"
    print(f"retrain of {params.project}: {outcome}: {message}", flush=True)
    if params.retrain.webhook is None:
        return
    champion = model_versions.named(project, params.project, alias="champion")
    body = json.dumps(
        {
            "project": params.project,
            "outcome": outcome,
            "message": message,
            "champion": champion.version if champion else None,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    ).encode()
    headers = {"Content-Type": "application/json"}
    if secret := os.environ.get(SECRET):
        headers["X-Temper-Signature"] = (
            f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
        )
    # A thread that nobody waits for longer: a server that sends a byte a second would hold up the run.
    said: list[str] = []
    request = urllib.request.Request(params.retrain.webhook, body, headers)
    post = threading.Thread(target=lambda: said.extend(_post(request)), name="webhook", daemon=True)
    post.start()
    post.join(_TIMEOUT_S)
    for why in [f"it did not answer within {_TIMEOUT_S:g} s"] if post.is_alive() else said:
        print(f"the webhook could not be told: {why}", file=sys.stderr)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is signed is meant for one address."""

    def redirect_request(self, *_: Any) -> None:
        """Leaves the redirection as the error that it is here."""


def _post(request: urllib.request.Request) -> list[str]:
    """Send it; returns why it failed, if it did."""
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=_TIMEOUT_S):
            return []
    except (OSError, ValueError, HTTPException) as error:
        return [" ".join(str(error).split())[:300] or type(error).__name__]
