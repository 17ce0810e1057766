"""Reports the result of a retraining: a line in the terminal and, if an address is set, a signed POST."""

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
"""Environment variable with the secret that both sides know.

If it is set, the header `X-Temper-Signature` is `sha256=` and the HMAC of the body.
"""
_TIMEOUT_S = 10.0


def notify(project: Project, params: Params, message: str, *, trained: bool, failed: bool) -> None:
    """Report the result of a retraining.

    If the webhook cannot be reached, only a line on standard error reports that; the run does not fail.

    Args:
        project: Project that was retrained.
        params: Parameters of the project.
        message: Result of the run, or its error.
        trained: A model was trained and registered.
        failed: The run failed.
    """
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
    # The thread limits the total time. The timeout of the request does not: a server that sends one byte per
    # second would delay the run.
    errors: list[str] = []
    request = urllib.request.Request(params.retrain.webhook, body, headers)
    post = threading.Thread(target=lambda: errors.extend(_post(request)), name="webhook", daemon=True)
    post.start()
    post.join(_TIMEOUT_S)
    for reason in [f"it did not answer within {_TIMEOUT_S:g} s"] if post.is_alive() else errors:
        print(f"the webhook could not be notified: {reason}", file=sys.stderr)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirections, since the signed message is meant for one address only."""

    def redirect_request(self, *_: Any) -> None:
        """Return None, so that a redirection becomes an error."""


def _post(request: urllib.request.Request) -> list[str]:
    """Send a request; returns the error as a list of one text, or an empty list."""
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=_TIMEOUT_S):
            return []
    except (OSError, ValueError, HTTPException) as error:
        return [" ".join(str(error).split())[:300] or type(error).__name__]
