"""Tell what came of a scheduled run: a line in the terminal, and, if an address is set, a signed POST."""

import hashlib
import hmac
import json
import os
import sys
import time
import urllib.request

from tasks import catalogue
from tasks.project import Project
from temper.params import Params

SECRET = "TEMPER_WEBHOOK_SECRET"
"""Environment variable with the secret that both sides know; with it `X-Temper-Signature` is sha256=HMAC of the body."""
_TIMEOUT_S = 10.0


def give(project: Project, params: Params, message: str, *, trained: bool, failed: bool) -> None:
    """Say what came of it; a webhook that cannot be reached is a line on standard error, and nothing else fails."""
    outcome = "failed" if failed else "trained" if trained else "not trained"
    print(f"retrain of {params.project}: {outcome}: {message}", flush=True)
    if params.retrain.webhook is None:
        return
    champion = catalogue.named(project, params.project, alias="champion")
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
        headers["X-Temper-Signature"] = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    try:
        with urllib.request.urlopen(urllib.request.Request(params.retrain.webhook, body, headers), timeout=_TIMEOUT_S):
            pass
    except (OSError, ValueError) as error:
        print(f"the webhook could not be told: {error}", file=sys.stderr)
