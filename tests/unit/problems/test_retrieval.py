import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_reciprocal_rank

from temper import artifacts
from temper.commands.rate import check_question
from temper.compress.export import Deployable, export
from temper.engine.distributed.ranks import Ranks, join_ranks
from temper.inputs.stored import write_inputs
from temper.networks.build import build_network
from temper.networks.index import UNKNOWN, Index, Indexed
from temper.networks.onnx_model import Deployed
from temper.problem import Row
from temper.problems import load
from temper.problems.deployed_answer import write_answer
from temper.problems.retrieval import Retrieval
from temper.stages import known_examples
from temper.stages.holdout import HeldOut
from temper.stages.load_trained import read_facts
from tests.project import make_project, run_until
from tests.toy import FACTS, SIZE, TOYS, pool_of

ITEMS = tuple(f"item {number}" for number in range(12))
PROBLEM = Retrieval(kind="retrieval", items=ITEMS)


def directions(count: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=1)


@pytest.fixture
def known() -> tuple[Index, torch.Tensor, torch.Tensor]:
    """An index, with 1 to 7 examples of each item, their directions, and their items."""
    index = Index(12, kept=4, size=8)
    items = torch.arange(12).repeat_interleave(torch.arange(12) % 7 + 1)
    items = items[torch.randperm(len(items), generator=torch.Generator().manual_seed(0))]
    numbers, places = index.choose(items)
    found = directions(len(items), 1)
    content = torch.zeros(48, 8)
    content[places] = found[numbers]
    index.write(content, content.any(dim=1))
    return index, found[numbers], items[numbers]


def test_recall_and_rank_are_those_of_libraries(known: tuple[Index, torch.Tensor, torch.Tensor]):
    index, gallery, items = known
    queries, wanted = (
        directions(200, 2),
        torch.randint(12, (200,), generator=torch.Generator().manual_seed(3)),
    )
    answer = PROBLEM.read({"logits": torch.zeros(200, 12), "similarities": index(queries)})
    found = PROBLEM.score(PROBLEM.tally(answer, {"item": wanted}).double().sum(dim=0))
    neighbours = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(gallery.numpy())
    _, nearest = neighbours.kneighbors(queries.numpy())
    right = items.numpy()[nearest] == wanted.numpy()[:, None]
    for rank in (1, 5, 10):
        assert float(found[f"recall_at_{rank}"]) == pytest.approx(right[:, :rank].any(axis=1).mean())
    pairs = list(zip(queries @ gallery.T, items[None] == wanted[:, None], strict=True))
    for rank in (1, 5, 10):
        rates = [retrieval_hit_rate(scores, true, top_k=rank) for scores, true in pairs]
        assert float(found[f"recall_at_{rank}"]) == pytest.approx(float(torch.stack(rates).mean()))
    ranks = [retrieval_reciprocal_rank(scores, true, top_k=10) for scores, true in pairs]
    assert float(found["reciprocal_rank"]) == pytest.approx(float(torch.stack(ranks).mean()))


def test_the_index_keeps_examples_of_each_item_evenly_over_their_order():
    index = Index(3, kept=4, size=2)
    items = torch.tensor([1] * 9 + [0, 0] + [1])
    numbers, places = index.choose(items)
    assert numbers.tolist() == [9, 10, 0, 3, 5, 8] and places.tolist() == [0, 1, 4, 5, 6, 7]
    assert Index(3, kept=4, size=2)(torch.ones(1, 2)).tolist() == [[UNKNOWN] * 12]
    directions = torch.zeros(12, 2)
    directions[places] = torch.tensor([0.6, 0.8])
    index.write(directions, directions.any(dim=1))
    similar = index(torch.tensor([[0.6, 0.8]]))[0]
    assert similar[places].tolist() == pytest.approx([1.0] * 6)
    assert sorted(similar.tolist())[:6] == [UNKNOWN] * 6


def test_places_without_an_example_are_no_answers():
    index = Index(12, kept=4, size=8)
    content = torch.zeros(48, 8)
    content[[3, 20, 47]] = directions(3, 0)
    index.write(content, content.any(dim=1))
    answer = PROBLEM.read({"logits": torch.zeros(5, 12), "similarities": index(directions(5, 1))})
    assert answer["items_valid"].sum(dim=1).tolist() == [3] * 5
    assert {*answer["items"][:, :3].flatten().tolist()} == {0, 5, 11}
    lost = {"item": torch.full((5,), 7)}
    assert PROBLEM.tally(answer, lost)[:, :4].sum() == 0
    assert ((PROBLEM.error(answer, lost) > 0.4) & (PROBLEM.error(answer, lost) <= 1)).all()
    nobody = PROBLEM.read({"logits": torch.zeros(5, 12), "similarities": torch.full((5, 48), UNKNOWN)})
    assert (PROBLEM.error(nobody, lost) == 1).all() and PROBLEM.gap(nobody, nobody).max() == 0
    assert PROBLEM.caption(nobody, lost) == "item 7, nothing is known"


def test_answers_that_swap_equally_near_examples_differ_by_nothing_and_others_by_their_distance():
    first = torch.full((1, 48), -0.5)
    first[0, [0, 4, 8]] = torch.tensor([0.9, 0.8, 0.8])
    swapped, moved, other = first.clone(), first.clone(), first.clone()
    swapped[0, [4, 5]] = torch.tensor([-0.5, 0.8])  # another example of the same item
    moved[0, 0] = 0.7
    other[0, [0, 40]] = torch.tensor([-0.5, 0.9])
    said = [PROBLEM.read({"similarities": each}) for each in (first, swapped, moved, other)]
    gaps = [float(PROBLEM.gap(said[0], each)) for each in said]
    assert gaps == pytest.approx([0, 0, 0.2, 1])
    assert gaps == pytest.approx([float(PROBLEM.gap(each, said[0])) for each in said])
    assert [float(PROBLEM.changed(said[0], each)) for each in said] == [0, 0, 1, 1]


def test_guessing_is_scored_as_the_most_frequent_items():
    name, scores = PROBLEM.constant({"a": 5, "b": 3, "c": 1, "d": 1}) or ("", {})
    assert name == "a" and scores["recall_at_1"] == 0.5 and scores["recall_at_5"] == 1
    assert scores["reciprocal_rank"] == pytest.approx(0.5 + 0.3 / 2 + 0.1 / 3 + 0.1 / 4)


@pytest.mark.parametrize(
    ("labels", "said"),
    [((), "no label for x; retrieval needs exactly one label"), (("a", "b"), r"x has 2 labels \(a, b\)")],
)
def test_rows_without_exactly_one_item_are_refused(labels: tuple[str, ...], said: str):
    with pytest.raises(ValueError, match=said):
        Retrieval(kind="retrieval").bind([Row("x", "x", labels), Row("y", "y", ("c",))])
    with pytest.raises(ValueError, match=r"item 'c' of y is not among problem.items"):
        Retrieval(kind="retrieval", items=("a", "b")).bind([Row("y", "y", ("c",))])


def test_the_index_is_filled_from_training_images_alike_in_batches_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = make_project(tmp_path, "retrieval", count=120)
    run_until(project, "prepare")
    prepare = artifacts.load("prepare", project / "artifacts" / "prepare")
    problem, facts = load(prepare.facts["problem"]), read_facts(prepare)
    filled = []
    for batch in (512, 7):
        monkeypatch.setattr(known_examples, "VALIDATION_BATCH", batch)
        toy = TOYS["retrieval"]
        network = build_network(problem, toy.backbone, facts, seed=0, head={"kept": 3}).eval()
        assert isinstance(network, Indexed)
        with torch.inference_mode():
            known_examples.open_known(network, problem, prepare, facts, join_ranks(), what="train")(network)
        filled.append(network.index.directions.clone())
        assert (network.index.offsets == 0).all() and filled[-1].shape == (36, 64)
    torch.testing.assert_close(*filled)
    partial: list[torch.Tensor] = []
    monkeypatch.setattr(Ranks, "sum", lambda self, values: partial.append(values) or values)
    for rank in (0, 1):
        ranks = Ranks(rank, 2, torch.device("cpu"))
        with torch.inference_mode():
            known_examples.open_known(network, problem, prepare, facts, ranks, what="train")(network)
    torch.testing.assert_close(partial[0] + partial[2], filled[1])
    assert (partial[1] + partial[3] == 1).all()
    assert np.allclose(filled[0].norm(dim=1), 1, atol=1e-5)


def test_a_group_for_each_item_leaves_splits_empty_which_is_refused(tmp_path: Path):
    lines, rng = [], np.random.default_rng(0)
    for number in range(40):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 255, (16, 16, 3), np.uint8))
        lines.append(f"{number}.png,item {number % 8},{number % 8}")
    (tmp_path / "table.csv").write_text("path,labels,group\n" + "\n".join(lines) + "\n")
    params = make_project(tmp_path / "project", "retrieval") / "params.yaml"
    ingest = f"ingest: {{source: table, file: {tmp_path}/table.csv, group: group}}"
    params.write_text(re.sub(r"ingest: .*", ingest, params.read_text()))
    with pytest.raises(ValueError, match=r"the \w+ split is empty: all 40 examples are in other .* groups"):
        run_until(tmp_path / "project", "prepare")


def test_a_model_that_knew_other_items_is_measured_by_their_names(tmp_path: Path):
    """Weekly new items: the old model answers numbers of its own list of items."""
    known = Retrieval(kind="retrieval", items=("b", "gone", "a"))
    network = build_network(known, TOYS["retrieval"].backbone, FACTS, seed=0, head={"kept": 4}).eval()
    content = torch.nn.functional.normalize(torch.randn(12, 64), dim=1)
    with torch.inference_mode():
        network.index.write(content, torch.ones(12, dtype=torch.bool))
    metadata = {**write_answer(known), **write_inputs(FACTS)}
    export(Deployable(network, known, FACTS, 1.0).eval(), FACTS, tmp_path / "old.onnx", metadata)
    images = np.random.default_rng(0).integers(0, 255, (20, SIZE, SIZE, 3), dtype=np.uint8)
    now = Retrieval(kind="retrieval", items=("a", "b", "c"))
    truth = {"item": torch.zeros(20, dtype=torch.int64)}
    test = HeldOut(now, pool_of(images), truth, [frozenset({"a"})] * 20, torch.arange(20))
    own = Deployed(tmp_path / "old.onnx")(images)["items"]
    found = test.open(tmp_path / "old.onnx")({"image": images})["items"]
    assert torch.equal(found, torch.tensor([1, -1, 0])[own])
    check_question(Deployed(tmp_path / "old.onnx").metadata, now, FACTS)
    metadata["temper.kind"] = "multiclass"
    with pytest.raises(ValueError, match=r"the model answers multiclass, the project asks retrieval"):
        check_question(metadata, now, FACTS)
