"""The decision whether to train again, and its reason."""

import pytest

from temper.ops.retraining.last_training import Differences
from temper.ops.retraining.triggers import Changes, decide
from temper.retrain_params import RetrainParams

PARAMS = RetrainParams(min_new=100, cooldown_h=24.0)
EAGER = RetrainParams(min_new=100, drift_trains=True)


@pytest.mark.parametrize(
    ("news", "params", "force", "train", "why"),
    [
        (Changes((), None), PARAMS, False, True, "nothing was trained yet"),
        (
            Changes((), 1.0),
            PARAMS,
            False,
            False,
            "nothing new: data, code and parameters are the same as in the last training",
        ),
        (
            Changes((), 1.0),
            PARAMS,
            True,
            False,
            "nothing new: data, code and parameters are the same as in the last training",
        ),
        (
            Changes((), 48.0, Differences(99)),
            PARAMS,
            False,
            False,
            "99 new training examples, fewer than retrain.min_new = 100",
        ),
        (Changes((), 48.0, Differences(99)), PARAMS, True, True, "99 new training examples"),
        (
            Changes((), 48.0, Differences(100, gone=3)),
            PARAMS,
            False,
            True,
            "100 new training examples, 3 removed",
        ),
        (
            Changes((), 5.0, Differences(100)),
            PARAMS,
            False,
            False,
            "100 new training examples, but the last training was 5.0 h ago and retrain.cooldown_h = 24",
        ),
        (
            Changes((), 48.0, Differences(relabelled=8)),
            PARAMS,
            False,
            True,
            "0 new training examples, 8 relabelled",
        ),
        (
            Changes((), 1.0, Differences(relabelled=8)),
            PARAMS,
            False,
            False,
            "0 new training examples, 8 relabelled, but the last training was 1.0 h ago and "
            "retrain.cooldown_h = 24",
        ),
        (
            Changes((), 48.0, Differences(60, replaced=40)),
            PARAMS,
            False,
            True,
            "60 new training examples, 40 with other pixels",
        ),
        (
            Changes((), 48.0, Differences(other=True)),
            PARAMS,
            False,
            False,
            "nothing new: data, code and parameters are the same as in the last training",
        ),
        (Changes((), 48.0, Differences(other=True)), PARAMS, True, True, "0 new training examples"),
        (Changes(("train",), 48.0), PARAMS, False, True, "changed stages: train"),
        (
            Changes(("train",), 5.0),
            PARAMS,
            False,
            False,
            "changed stages: train, but the last training was 5.0 h ago and retrain.cooldown_h = 24",
        ),
        (
            Changes(("train", "distill"), 48.0, Differences(5)),
            PARAMS,
            False,
            True,
            "5 new training examples, changed stages: train, distill",
        ),
        (
            Changes((), 48.0, Differences(5), ("brightness",)),
            PARAMS,
            False,
            False,
            "5 new training examples, fewer than retrain.min_new = 100 "
            "(drift in brightness: for information only)",
        ),
        (
            Changes((), 48.0, Differences(5), ("brightness",)),
            EAGER,
            False,
            True,
            "5 new training examples, drift in brightness",
        ),
        (
            Changes((), 48.0, alarms=("answers",)),
            EAGER,
            False,
            False,
            "nothing new: data, code and parameters are the same as in the last training",
        ),
    ],
)
def test_the_rules(news: Changes, params: RetrainParams, force: bool, train: bool, why: str):
    found = decide(news, params, force=force)
    assert (found.train, found.why) == (train, why)
