import re
import signal

import pytest

from temper.engine.distributed.launch_spec import ALONE, Offer, Order, explain_difference, parse_address
from temper.engine.distributed.rank_failures import judge, restartable
from temper.engine.distributed.ranks import join_ranks
from temper.engine.distributed.rendezvous import (
    arrive,
    await_offer,
    gather_hosts,
    give_up_after,
    interface_of,
    offer_training,
    open_store,
    reach_store,
)
from temper.engine.distributed.shutdown import LOST, STOPPED, TOO_LARGE
from temper.engine.params import HostsParams

OFFER = Offer("run", "train", {"params": "a" * 64, "prepare": "b" * 64}, HostsParams(most=3))
HERE = "127.0.0.1"


def test_variables_of_another_launcher_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for name, value in {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    ranks = join_ranks()
    assert (ranks.rank, ranks.num) == (0, 1)


def test_an_order_survives_its_way_through_a_command_line():
    order = Order(("-m", "temper", "stage", "train"), 2, True, HERE, 7, OFFER)
    assert Order.decode(order.encode()) == Order(["-m", "temper", "stage", "train"], 2, True, HERE, 7, OFFER)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "host:port", "a/b", "10.0.0.1:99999", "me@host", "[fd00::1"])
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(ValueError, match=rf"HOST={re.escape(repr(text))}: .*10\.0\.0\.1"):
        parse_address(text)


def test_a_store_listens_where_it_is_told_and_hosts_meet_there():
    store = open_store(HERE, 0, 5)
    offer_training(store, OFFER)
    assert gather_hosts(store, most=2, wait_s=0) == 1
    assert await_offer(HERE, store.port, wait_s=5, done=set()) == OFFER
    assert await_offer(HERE, store.port, wait_s=0.1, done={"run"}) is None
    other = reach_store(HERE, store.port, 5)
    give_up_after(other, 7)
    arrive(other, wait_s=5)
    assert gather_hosts(store, most=2, wait_s=60) == 2
    with pytest.raises(ValueError, match=f"cannot listen on {HERE}:{store.port}: .*HOST=address:port"):
        open_store(HERE, store.port, 5)
    assert interface_of(HERE) is not None and interface_of("192.0.2.1") is None


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ValueError, match=r"cannot listen on 192\.0\.2\.1:0: .*address.*`ip address`"):
        open_store("192.0.2.1", 0, 5)


def test_what_differs_between_hosts_is_named():
    assert explain_difference(OFFER.made_of, OFFER, HERE) is None
    said = explain_difference({"params": "a" * 64}, OFFER, HERE)
    assert said is not None and "params.yaml" in said
    assert re.search(r"train of 127\.0\.0\.1.* in prepare \(missing here, b{12} there\);", said)


def test_a_restart_is_for_losses_only():
    assert restartable({0: LOST, 1: -signal.SIGKILL}) and restartable({1: TOO_LARGE})
    # Rank 0 did not notice the loss before the agent stopped it.
    for stopped in (STOPPED, -signal.SIGTERM):
        assert restartable({0: stopped, 1: -signal.SIGKILL}) and restartable({0: stopped, 1: TOO_LARGE})
    for codes in (
        {0: 2, 1: LOST},
        {0: STOPPED},
        {0: LOST, 1: -signal.SIGTERM},
        {1: 1},
        {0: 1, 1: -signal.SIGKILL},
    ):
        assert not restartable(codes)
    assert "lost the connection" in judge({})[1]
    assert ALONE.restarts == 0


def test_more_hosts_at_least_than_at_most_are_refused():
    with pytest.raises(ValueError, match=r"least = 3: .*most = 2; .*2 or less"):
        HostsParams(most=2, least=3)
