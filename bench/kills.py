"""Does a training that is killed five times end with the same weights as an undisturbed one?

    python bench/kills.py [PROJECT] [STAGE]        default: examples/digits train

Needs the project's artifacts (`make pipeline PROJECT=...` first). In copies of the project the stage is
trained with 1 and with 2 ranks, once undisturbed and once killed five times: SIGKILL goes to a random process
of the training (the stage's main process, torchrun's agent, a rank) at a random instant after the training
made progress. Prints the SHA-256 of the weights and the digest of the artifact, which covers curves and
facts. The exit status is 1 if they differ.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from asked import read_project
from temper.artifacts import digest_file, load
from temper.stages import BY_NAME

KILLS = 5
source, stage = read_project(__doc__, default="examples/digits", stages=("train", "distill"))
command = [sys.executable, "-m", "temper", "stage", stage, "--project"]


def copy(folder: Path, ranks: int) -> Path:
    """Copy the project as it is before the stage, with a number of ranks and frequent checkpoints."""
    folder.mkdir(parents=True)
    for name in BY_NAME[stage].inputs:
        shutil.copytree(source / "artifacts" / name, folder / "artifacts" / name)
    text = (source / "params.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^  ranks:.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(rf"^({stage}:\n)", rf"\1  ranks: {ranks}\n", text, flags=re.MULTILINE)
    text = text.replace("fit: {", "fit: {checkpoint_s: 0.5, ")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return folder


def newest(project: Path) -> str:
    """Return the name of the newest checkpoint."""
    return max((path.name for path in project.glob(".temper/checkpoints/*/*.safetensors")), default="")


def kill_once(project: Path, generator: random.Random) -> str:
    """Start the stage, let it make progress, and kill one of its processes.

    Returns:
        Which process was killed, and after which step.
    """
    before = newest(project)
    main = subprocess.Popen([*command, str(project)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while newest(project) == before and main.poll() is None:
        time.sleep(0.02)
    time.sleep(generator.uniform(0, 1))
    tree = [psutil.Process(main.pid), *psutil.Process(main.pid).children(recursive=True)]
    victim = generator.randrange(len(tree))
    at = newest(project).split("-")
    tree[victim].kill()
    main.wait(timeout=30)
    _, alive = psutil.wait_procs(tree[1:], timeout=10)
    assert not alive, f"processes left behind: {alive}"
    name = ("main process", "agent")[victim] if victim < 2 else f"rank {victim - 2}"
    return f"{name} after step {int(at[3])}"


def finish(project: Path) -> tuple[str, str]:
    """Run the stage to its end; returns the digests of the weights and of the artifact."""
    subprocess.run([*command, str(project)], check=True, stdout=subprocess.DEVNULL)
    folder = project / "artifacts" / stage
    return digest_file(folder / "network.safetensors")[:16], load(stage, folder).digest[:16]


failed = False
os.environ.pop("OMP_NUM_THREADS", None)
with tempfile.TemporaryDirectory() as work:
    for ranks in (1, 2):
        whole = finish(copy(Path(work) / f"whole-{ranks}", ranks))
        project, generator = copy(Path(work) / f"killed-{ranks}", ranks), random.Random(ranks)
        victims = [kill_once(project, generator) for _ in range(KILLS)]
        killed = finish(project)
        failed |= killed != whole
        print(f"{source.name} {stage}, {ranks} rank{'s' * (ranks > 1)}: killed {', '.join(victims)}")
        print(f"  undisturbed  weights {whole[0]}  artifact {whole[1]}")
        print(
            f"  killed       weights {killed[0]}  artifact {killed[1]}  "
            f"{'equal' if killed == whole else 'DIFFERENT'}",
            flush=True,
        )
sys.exit(failed)
