"""Two hosts train one network. One is cut off; the other continues and lets it join again."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.project import ROOT, make_project, run_stage, run_until
from tests.ranks.hosts import FIRST, Hosts, two_hosts, why_not
from tests.ranks.test_kills import digests, newest_step, set_ranks, without_checkpoints
from tests.ranks.test_ranks import TOLERANCE, curves

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are namespaces"),
]
EPOCHS = 40


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy project up to augment, for a training with one rank on each of two hosts."""
    project = make_project(tmp_path_factory.mktemp("prepared"), "multiclass", count=480, epochs=EPOCHS)
    path = project / "params.yaml"
    text = path.read_text().replace("precision: fp32", "precision: fp32, checkpoint_s: 0.05")
    path.write_text(
        text.replace("  ranks: 1\n", "  ranks: 1\n  hosts: {most: 2, wait_s: 120, lost_s: 6}\n", 1)
    )
    run_until(project, "augment")
    return project


def set_hosts(project: Path, hosts: str | None) -> None:
    path = project / "params.yaml"
    path.write_text(re.sub(r"  hosts: .*\n", f"  hosts: {hosts}\n" if hosts else "", path.read_text()))


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training by two ranks on one host."""
    project = tmp_path_factory.mktemp("undisturbed") / "project"
    shutil.copytree(prepared, project)
    set_hosts(project, None)
    set_ranks(project, 2)
    without_checkpoints(project)
    done = run_stage(project, "train")
    assert done.returncode == 0, done.stderr[-2000:]
    return project


class Host:
    """The command that runs on one of the hosts."""

    def __init__(self, inside: list[str], project: Path, command: str) -> None:
        self.log = project / f"{command}.log"
        words = [
            *inside,
            sys.executable,
            "-m",
            "temper",
            *(["join"] if command == "join" else ["stage", command]),
            "--project",
            str(project),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TEMPER_HOST": FIRST}
        with self.log.open("w") as log:
            self.door = subprocess.Popen(
                words, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        # Each host gets one core, so that its rank has one thread, as with two ranks on one host. The sums
        # are then the same.
        psutil.Process(self.door.pid).cpu_affinity(
            [sorted(os.sched_getaffinity(0))[-1 if command == "join" else 0]]
        )

    def said(self) -> str:
        return self.log.read_text()

    def end(self) -> None:
        if self.door.poll() is None:
            below = psutil.Process(self.door.pid).children(recursive=True)
            self.door.terminate()
            _, alive = psutil.wait_procs([psutil.Process(self.door.pid), *below], timeout=20)
            for process in alive:
                process.kill()
        self.door.wait()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as found:
        yield found


@pytest.fixture
def running(
    hosts: Hosts, prepared: Path, tmp_path: Path
) -> Iterator[Callable[[str | None], tuple[Host, Host]]]:
    """Start the training on both hosts, each with its own folder, as if they did not share a disk."""
    started: list[Host] = []

    def start(section: str | None = None) -> tuple[Host, Host]:
        for name in ("first", "second"):
            shutil.copytree(prepared, tmp_path / name)
            if section:
                set_hosts(tmp_path / name, section)
        started.append(Host(hosts.inside(hosts.first), tmp_path / "first", "train"))
        started.append(Host(hosts.inside(hosts.second), tmp_path / "second", "join"))
        return started[0], started[1]

    yield start
    for host in reversed(started):
        host.end()


def until(what: Callable[[], bool], *hosts: Host, within_s: float = 180) -> None:
    end = time.monotonic() + within_s
    while not what():
        over = hosts[0].door.poll() is not None
        if over or time.monotonic() > end:
            raise AssertionError("\n".join(f"{host.log.name}: {host.said()[-3000:]}" for host in hosts))
        time.sleep(0.02)


def step_reached(project: Path, step: int) -> bool:
    return any(project.glob(".temper/checkpoints/*/*.safetensors")) and newest_step(project) >= step


@contextmanager
def held(host: Host) -> Iterator[psutil.Process]:
    """Suspend a host's rank, so that its training does not end while the body waits."""
    rank = max(psutil.Process(host.door.pid).children(recursive=True), key=lambda process: process.pid)
    rank.suspend()
    try:
        yield rank
    finally:
        rank.resume()


def told_to_stop(rank: psutil.Process) -> bool:
    """Return whether SIGTERM is pending for a suspended process."""
    found = re.search(r"^ShdPnd:\s*([0-9a-f]+)", Path(f"/proc/{rank.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return bool(int(found[1], 16) & 1 << (signal.SIGTERM - 1))


def test_a_host_that_is_cut_off_is_done_without_and_taken_in_again(
    running: Callable[..., tuple[Host, Host]], hosts: Hosts, undisturbed: Path, tmp_path: Path
):
    first, second = running()
    until(lambda: step_reached(tmp_path / "first", 30), first, second)
    hosts.cut()
    until(lambda: "resuming at step" in first.said(), first, second)
    with held(first) as rank:
        hosts.reconnect()
        # The agent asks its rank to stop as soon as the other host asks to join.
        until(lambda: told_to_stop(rank), first, second)
    assert first.door.wait(timeout=300) == 0, first.said() + second.said()
    said = first.said()
    assert re.search("a host was lost; .*last checkpoint", said)
    assert said.count("hosts: 2 of 2, ranks: 2") == 2, said  # the second host came back
    at = int(re.findall(r"resuming at step (\d+)", said)[0])
    assert at >= 30
    whole, found = curves(undisturbed), curves(tmp_path / "first")
    assert whole.keys() == found.keys()
    losses = sorted(key for key in whole if key[1] == "train/loss")
    # With the same number of ranks, the bits are the same. With another number, sums have another order, and
    # differences in the last bit grow with the steps, so only the first entry after the change is compared.
    assert [found[key] for key in losses if key[0] <= at] == [whole[key] for key in losses if key[0] <= at]
    for key in [key for key in losses if key[0] > at][:1]:
        assert found[key] == pytest.approx(whole[key], rel=TOLERANCE), key


def test_where_both_are_needed_it_waits_and_ends_with_the_same_bits(
    running: Callable[..., tuple[Host, Host]], hosts: Hosts, undisturbed: Path, tmp_path: Path
):
    first, second = running("{most: 2, least: 2, wait_s: 120, lost_s: 6}")
    until(lambda: step_reached(tmp_path / "first", 30), first, second)
    hosts.cut()
    until(lambda: "a host was lost" in first.said(), first, second)
    hosts.reconnect()
    assert first.door.wait(timeout=300) == 0, first.said() + second.said()
    assert first.said().count("hosts: 2 of 2, ranks: 2") == 2
    assert digests(tmp_path / "first") == digests(undisturbed)
    assert not (tmp_path / "second" / "artifacts" / "train").exists()


def test_a_host_with_other_data_is_told_what_differs(hosts: Hosts, prepared: Path, tmp_path: Path):
    for name in ("first", "other"):
        shutil.copytree(prepared, tmp_path / name)
    params = tmp_path / "other" / "params.yaml"
    params.write_text(params.read_text().replace("lr: 0.1", "lr: 0.2"))
    first = Host(hosts.inside(hosts.first), tmp_path / "first", "train")
    other = Host(hosts.inside(hosts.second), tmp_path / "other", "join")
    try:
        assert other.door.wait(timeout=240) == 2, other.said()
        assert re.search(r"cannot take part in train of 10\.213\.7\.1.* params \(\w{12} here", other.said())
    finally:
        other.end()
        first.end()
