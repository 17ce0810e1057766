"""Starts ranks through torchrun and ends quietly: a rank prints its own error, the agent's traceback says nothing more."""

import logging
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == "__main__":
    logging.disable(logging.ERROR)
    try:
        main(sys.argv[1:])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        sys.exit(failure.exitcode if 0 < failure.exitcode < 256 else 1)
