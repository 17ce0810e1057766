"""How fast is each precision and memory layout on this machine, for a project's own networks and batches?

    python bench/modes.py [PROJECT]        default: .

Training chooses its mode without a clock (docs/decisions/0007-modes-without-a-clock.md). This benchmark shows
whether that rule finds the fastest mode on this machine, or whether `fit.precision` and `fit.layout` should
be set. Set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 to simulate a processor without matrix units. Rounds alternate
between the modes. Prints images/s (median, least, most) of forward pass, backward pass and update, and the
ratio to the mode that the rule chooses. Needs the project's artifacts (`make pipeline` first).
"""

import time
from statistics import median

import torch

from asked import read_project
from temper import artifacts
from temper.config import load
from temper.data.dataset.packed import open_inputs, open_training
from temper.data.loading.loader import Examples, TrainLoader, to_tensors
from temper.engine.distributed.ranks import join_ranks
from temper.engine.objectives import supervised
from temper.engine.optimizers import build_optimizer
from temper.engine.precision import Mode, choose_mode
from temper.networks.build import build_network
from temper.networks.whitening import whiten
from temper.problem import Batch, Emphasis
from temper.problems import load as load_problem
from temper.stages.load_trained import read_facts

ROUNDS, STEPS = 7, 5
MODES = [
    Mode(precision, layout) for precision in ("fp32", "bf16") for layout in ("channels-last", "contiguous")
]

project, _ = read_project(__doc__, default=".")
params, device = load(project), join_ranks().device
prepare, augment = (artifacts.load(name, project / "artifacts" / name) for name in ("prepare", "augment"))
problem, facts = load_problem(prepare.facts["problem"]), read_facts(prepare)
columns, repeats, weights = open_training(prepare, augment)

for stage in (params.train, params.distill):
    loader = TrainLoader(
        to_tensors(columns, device),
        Examples(repeats, weights, facts, problem.truth),
        batch_size=stage.fit.batch_size,
        device=device,
        views=stage.views,
        seed=0,
    )
    batch = next(loader.batches(0))
    network = build_network(problem, stage.backbone, facts, seed=0)
    whiten(network, next(iter(open_inputs(prepare).values())))
    network = network.to(device).train()
    objective, optimizer = supervised(problem, Emphasis()), build_optimizer(network, stage.fit)
    taken, _ = choose_mode(network, objective, batch, stage.fit, device)
    speeds = {mode: [] for mode in MODES}
    for number in range(ROUNDS + 1):
        for mode in MODES:
            mode.arrange(network)
            arranged = Batch(
                {**batch.inputs, "image": mode.arrange_input(batch.inputs["image"])},
                batch.targets,
                batch.weights,
            )
            started = time.perf_counter()
            for _ in range(STEPS):
                with mode.autocast(device):
                    loss = objective(network, arranged)["loss"]
                optimizer.zero_grad(set_to_none=True)
                (0 * loss).backward()
                optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first round warms up
                speeds[mode].append(STEPS * stage.fit.batch_size / (time.perf_counter() - started))
    reference = median(speeds[taken])
    print(
        f"{stage.backbone} batch {stage.fit.batch_size}, {ROUNDS} rounds of {STEPS} steps, "
        f"{torch.get_num_threads()} threads"
    )
    for mode, rates in speeds.items():
        mark = "  <- chosen by the rule" if mode == taken else ""
        print(
            f"  {mode.precision} {mode.layout:13s} {median(rates):8.0f} "
            f"({min(rates):.0f}-{max(rates):.0f}) images/s, {median(rates) / reference:.2f}{mark}"
        )
