"""Does a training that is killed five times end with the weights of one that is not?

    python bench/kills.py [PROJECT] [STAGE]        default: examples/digits train

Needs the project's artifacts (`make pipeline PROJECT=...` first). In copies of the project the stage is trained with 1 and with 2 ranks, once undisturbed and once
killed five times: SIGKILL to a random process of the training (the door, torchrun's agent, a rank) at a random instant after it made
progress. Prints the SHA-256 of the weights and the digest of the artifact, which covers curves and facts; exit status 1 if they differ.
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
    """The project as it is before the stage, with so many ranks and frequent checkpoints."""
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
    """The name of the newest checkpoint."""
    return max((path.name for path in project.glob(".temper/checkpoints/*/*.safetensors")), default="")


def kill_once(project: Path, generator: random.Random) -> str:
    """Start the stage, let it make progress, kill one of its processes; says which, and where."""
    before = newest(project)
    door = subprocess.Popen([*command, str(project)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while newest(project) == before and door.poll() is None:
        time.sleep(0.02)
    time.sleep(generator.uniform(0, 1))
    tree = [psutil.Process(door.pid), *psutil.Process(door.pid).children(recursive=True)]
    victim = generator.randrange(len(tree))
    at = newest(project).split("-")
    tree[victim].kill()
    door.wait(timeout=30)
    _, alive = psutil.wait_procs(tree[1:], timeout=10)
    assert not alive, f"left behind: {alive}"
    name = ("door", "agent")[victim] if victim < 2 else f"rank {victim - 2}"
    return f"{name} after step {int(at[3])}"


def finish(project: Path) -> tuple[str, str]:
    """Run the stage to its end; digests of the weights and of the artifact."""
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
            f"  killed       weights {killed[0]}  artifact {killed[1]}  {'equal' if killed == whole else 'DIFFERENT'}",
            flush=True,
        )
sys.exit(failed)
