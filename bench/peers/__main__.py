"""`python -m peers JOB`: one training, reported line by line. The process ends when its parent ends."""

import json
import sys
from importlib import import_module

from peers.job import CONTESTANTS, Job, Report, lines_apart
from temper.parent_death import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    write_line = lines_apart()
    job = Job(**json.loads(sys.argv[1]))
    try:
        # Import the contestant first: reading parameters may load albumentations without its part for torch.
        contestant = import_module(f"peers.{CONTESTANTS[job.contestant][0]}")
        import torch

        torch.set_num_threads(job.threads)
        contestant.run(job, Report(job, write_line))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
