import os
import subprocess
import sys

import pytest
from torch import nn

from temper.engine.distributed.sync_batchnorm import synchronise_statistics
from tests.project import ROOT, free_port


@pytest.mark.slow
def test_two_ranks_with_uneven_parts_normalise_as_one():
    common = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.ranks.norms_of_two"]
    ranks = [
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **common, "RANK": str(rank)}, stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=300)[1].decode()[-2000:] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said


def test_a_normalisation_of_an_unknown_kind_is_refused():
    class Odd(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match=r"layer 1 .*Odd: .*statistics.*set ranks to 1"):
        synchronise_statistics(nn.Sequential(nn.BatchNorm2d(2), Odd(2)))
