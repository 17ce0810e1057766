"""How many bytes do ranks exchange in a step? Measured, with a model of the cost on 2 to 256 GPUs.

    python bench/communication.py [PROJECT]        default: .

Two gloo ranks train the project's teacher and student and a ResNet-50 (1,000 classes) for some steps. For
each network the benchmark prints the calls and bytes of the tensors that are summed over ranks in a step,
separately for gradients and batch statistics. It also prints the bytes that went over the wire. They are
counted at the loopback interface of a separate network namespace, which carries no other traffic. This needs
root and `unshare`; without them, the bytes on the wire are left out.

The model is that of a ring (Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002): each of N ranks sends
2 (N - 1) / N of the bytes, in 2 (N - 1) messages one after the other. Gradients are summed while the backward
pass still runs, so their time is an upper bound of their cost. The forward and backward passes wait for the
statistics, which therefore cost the latency of their messages.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from torch import distributed, nn

from asked import read_project
from temper.config import load
from temper.engine.distributed import sync_batchnorm
from temper.engine.distributed.ranks import Ranks, join_ranks
from temper.engine.objectives import supervised
from temper.inputs.image_input import ImageInput
from temper.networks.build import build_network
from temper.networks.params import AnyBackbone, Timm
from temper.problem import PLAIN, Batch
from temper.problems.multiclass import Multiclass

STEPS = 5
EXAMPLES, SIZE_PX = 4, 32
LINKS_GBIT_S = (25, 100, 400)
LATENCY_US = 10
"""Latency of one message between two hosts: a usual order of magnitude; replace it by your network's."""


class Count:
    """Number of calls and bytes of sums over ranks."""

    def __init__(self) -> None:
        self.calls = self.bytes = 0

    def add(self, tensor: torch.Tensor) -> None:
        """Count the sum of one tensor."""
        self.calls += 1
        self.bytes += tensor.numel() * tensor.element_size()


def sent_bytes() -> int:
    """Return the bytes that were sent over the loopback interface of this process's network namespace."""
    # /sys would show the counters of another namespace.
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    return 0


def measure(backbone: AnyBackbone, classes: int, ranks: Ranks) -> dict[str, float]:
    """Return, per step, the calls and bytes of gradients and of statistics, and the bytes on the wire."""
    facts = {"image": ImageInput(SIZE_PX, SIZE_PX, 3, (127.0,) * 3, (60.0,) * 3)}
    problem = Multiclass(kind="multiclass", classes=tuple(map(str, range(classes))))
    network = build_network(problem, backbone, facts, seed=0)
    shared, objective = ranks.share(network), supervised(problem, PLAIN)
    assert isinstance(shared, nn.parallel.DistributedDataParallel)
    gradients, statistics = Count(), Count()

    def sum_gradients(state: None, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        gradients.add(bucket.buffer())
        bucket.buffer().div_(ranks.num)
        return plain(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])

    def sum_statistics(tensor: torch.Tensor) -> None:
        statistics.add(tensor)
        plain(tensor)

    plain = distributed.all_reduce
    shared.register_comm_hook(None, sum_gradients)
    sync_batchnorm.distributed.all_reduce = sum_statistics
    images = torch.randint(0, 256, (EXAMPLES, 3, SIZE_PX, SIZE_PX), dtype=torch.uint8)
    batch = Batch({"image": images}, {"label": torch.arange(EXAMPLES) % classes}, torch.ones(EXAMPLES))
    sent = 0
    try:
        for step in range(STEPS + 2):
            if step == 2:  # DistributedDataParallel rearranges its buckets in the first two steps
                for count in (gradients, statistics):
                    count.calls = count.bytes = 0
                ranks.wait()
                sent = sent_bytes()
            network.zero_grad()
            objective(shared.train(), batch)["loss"].backward()
        ranks.wait()
        sent = sent_bytes() - sent
    finally:
        sync_batchnorm.distributed.all_reduce = plain
    found = {"gradient bytes": gradients.bytes, "gradient sums": gradients.calls}
    found |= {"statistics bytes": statistics.bytes, "statistics sums": statistics.calls, "wire bytes": sent}
    return {name: value / STEPS for name, value in found.items()}


def show(name: str, found: dict[str, float], *, alone: bool) -> None:
    """Print the measurements of one network, and the model."""
    size, sums = found["gradient bytes"], found["statistics sums"]
    print(f"\n{name}: a step of a rank")
    print(f"  gradients   {size / 1e6:10.3f} MB in {found['gradient sums']:.0f} sums")
    print(
        f"  statistics  {found['statistics bytes'] / 1e6:10.3f} MB in {sums:.0f} sums (forward and backward)"
    )
    if alone:
        payload = size + found["statistics bytes"]
        # Two ranks: each sends 2 (2 - 1) / 2 = once the bytes.
        print(
            f"  on the wire {found['wire bytes'] / 1e6:10.3f} MB by both ranks; "
            f"the ring model predicts {2 * payload / 1e6:.3f}"
        )
    links = "".join(f"{f'{link} Gbit/s':>12}" for link in LINKS_GBIT_S)
    print(
        f"  {'ranks':>5} {'sent':>11}{links}{'statistics':>12}"
        f"   (ms; statistics at {LATENCY_US} us per message)"
    )
    for num in (2, 4, 8, 16, 32, 64, 128, 256):
        sent = 2 * (num - 1) / num * size
        times = "".join(f"{sent * 8 / link / 1e6:12.2f}" for link in LINKS_GBIT_S)
        print(f"  {num:5} {sent / 1e6:8.2f} MB{times}{sums * 2 * (num - 1) * LATENCY_US / 1e3:12.2f}")


def rank(folder: Path, *, alone: bool) -> None:
    """Measure every network as one of the two ranks; the first rank prints."""
    ranks, params = join_ranks(), load(folder)
    for name, backbone, classes in (
        ("teacher", params.train.backbone, 10),
        ("student", params.distill.backbone, 10),
        ("ResNet-50", Timm(family="timm", name="resnet50"), 1000),
    ):
        found = measure(backbone, classes, ranks)
        if ranks.first:
            show(name, found, alone=alone)


def main() -> None:
    """Start two ranks, in a separate network namespace if this user may make one."""
    folder, _ = read_project(__doc__, default=".")
    if "RANK" in os.environ:
        rank(folder, alone=os.environ["ALONE"] == "1")
        return
    apart = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    alone = (
        "ALONE" not in os.environ
        and subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0
    )
    if alone:
        sys.exit(
            subprocess.run(
                [*apart, sys.executable, *sys.argv], env={**os.environ, "ALONE": "1"}, check=False
            ).returncode
        )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    here = {
        "ALONE": "0",
        **os.environ,
        "TORCHELASTIC_RUN_ID": "communication",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    here |= {"GLOO_SOCKET_IFNAME": "lo", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    both = [
        subprocess.Popen([sys.executable, *sys.argv], env={**here, "RANK": str(number)})
        for number in range(2)
    ]
    sys.exit(max(process.wait() for process in both))


if __name__ == "__main__":
    main()
