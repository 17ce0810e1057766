"""`python -m peers JOB`: one training, told line by line; a process of its own, which ends with the one that started it."""

import json
import sys
from importlib import import_module

from peers.job import CONTESTANTS, Job, Report, lines_apart
from temper.parent_death import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    tell = lines_apart()
    job = Job(**json.loads(sys.argv[1]))
    try:
        # First of all: reading parameters may keep albumentations from its part that makes tensors.
        contestant = import_module(f"peers.{CONTESTANTS[job.contestant][0]}")
        import torch

        torch.set_num_threads(job.threads)
        contestant.run(job, Report(job, tell))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
