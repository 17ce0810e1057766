from pathlib import Path

import pytest

from temper.config import _EXAMPLE, check_hosts, check_ranks, load, parse
from tests.project import ROOT, make_project, toy_params

DEFAULT = Path("params.yaml").read_text(encoding="utf-8")


def change(old: str, new: str) -> str:
    assert old in DEFAULT
    return DEFAULT.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "label_smoothing: 0.1",
            "label_smoothin: 0.1",
            r"unknown key train.fit.label_smoothin; .* 'label_smoothing'",
        ),
        ("project: fashion-mnist", "projekt: fashion-mnist", r"unknown key projekt; .*'project'"),
        (
            "project: fashion-mnist",
            "project: Fashion MNIST",
            r"project = 'Fashion MNIST': string should match",
        ),
        ("epochs: 7", "epochs: six", r"train.fit.epochs = 'six': input should be a valid integer"),
        ("epochs: 7", "epochs: 0", r"train.fit.epochs = 0: input should be greater than or equal to 1"),
        ("seed: 0", "seed: 0.5", r"seed = 0.5: input should be a valid integer"),
        ("seed: 0\n", "", r"seed is missing"),
        (
            "flip: true, crop_px: 1",
            "flip: yes, crop_px: 1",
            r"views.flip = 'yes': input should be a valid boolean",
        ),
        (
            "kind: multiclass",
            "kind: multi-class",
            r"problem.kind = 'multi-class': must be one of multiclass, .*; the nearest is 'multiclass'",
        ),
        ("source: fashion-mnist", "source: imagefolder", r"ingest.imagefolder.folder is missing"),
        (
            "ranks: auto",
            "ranks: -1",
            r"train.ranks = -1: input should be 'auto', or greater than or equal to 1$",
        ),
        ("seed: 0", "seed: 2026-01-01", r"not a text, number, list or mapping: .*date"),
    ],
)
def test_a_mistake_names_the_key_the_value_and_the_rule(old: str, new: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse(change(old, new))


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"params.yaml does not exist; `make init FOLDER=...` writes one"):
        load(tmp_path)
    (tmp_path / "params.yaml").write_text("a: [1, 2")
    with pytest.raises(ValueError, match=r"params.yaml is not valid YAML"):
        load(tmp_path)
    unquoted = change("seed: 0", "seed: 0\nretrain: {webhook: https://example.org/hook}")
    (tmp_path / "params.yaml").write_text(unquoted)
    with pytest.raises(ValueError, match=r"params.yaml: DVC cannot read the file.* line \d+, .*quotes"):
        load(tmp_path)
    (tmp_path / "params.yaml").write_text("just words")
    with pytest.raises(ValueError, match=r"expected a mapping of sections, found str"):
        load(tmp_path)
    for nothing in ("", "\n", "# a comment\n", "---\n"):
        (tmp_path / "params.yaml").write_text(nothing)
        with pytest.raises(
            ValueError, match=r"params.yaml: the file is empty; .* project, seed, .*, gate, .*: copy .*"
        ):
            load(tmp_path)
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"params.yaml is not UTF-8"):
        load(tmp_path)


def test_the_example_that_an_empty_file_is_sent_to_exists():
    assert load(Path("examples/digits")).seed == 0 and _EXAMPLE == "examples/digits/params.yaml"


def test_several_hosts_need_an_address_to_meet_at():
    params = parse(change("ranks: auto", "hosts: {most: 2}"))
    with pytest.raises(
        ValueError,
        match=r"train\.hosts\.most = 2: .*`make pipeline HOST=address`.*`make join HOST=address`",
    ):
        check_hosts(params, "train", "")
    check_hosts(params, "train", "10.0.0.1")
    check_hosts(params, "distill", None)
    check_hosts(parse(change("ranks: auto", "hosts: {most: 1}")), "train", None)


def test_more_ranks_than_the_machine_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("temper.config._GPUS", tmp_path / "gpus")
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    # `parse` accepts it: a plan may be made on another machine.
    params = parse(change("ranks: auto", "ranks: 99"))
    with pytest.raises(
        ValueError, match=r"train.ranks = 99: .* own core, .* has 2; set it to 2 or less, or to auto"
    ):
        check_ranks(params, "train")
    check_ranks(params, "distill")
    for asked in ("2", "auto"):
        check_ranks(parse(change("ranks: auto", f"ranks: {asked}")), "train")
    for gpu in ("0000:00:01.0", "0000:00:02.0", "0000:00:03.0"):
        (tmp_path / "gpus" / gpu).mkdir(parents=True)
    check_ranks(parse(change("ranks: auto", "ranks: 3")), "train")
    with pytest.raises(ValueError, match=r"train.ranks = 99: .* own GPU, .* has 3; set it to 3"):
        check_ranks(params, "train")


def test_numbers_are_read_as_dvc_reads_them():
    assert parse(change("lr: 0.06", "lr: 6e-2")).train.fit.lr == 0.06


def test_parameters_cannot_be_changed():
    params = parse(DEFAULT)
    with pytest.raises(Exception, match="frozen"):
        params.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_numbers_must_be_finite(value: str):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"train\.fit\.lr = -?(nan|inf): must be a finite number"):
        parse(text.replace("lr: 0.06", f"lr: {value}", 1))


def test_a_network_has_stages():
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="widths"):
        parse(text.replace("widths: [48, 64, 128]", "widths: []", 1))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "cron: every monday",
            r"cron = 'every monday': wrong number of fields; .*'0 3 \* \* 1'",
        ),
        ("cron: 99 * * * *", r"cron = '99 \* \* \* \*': bad minute"),
        ("timezone: Europe/Berln", r"timezone = 'Europe/Berln': .*time zone, e\.g\. Europe/Berlin"),
        ("inbox: ../../etc", r"inbox = '../../etc': must .*inside the project"),
        ("inbox: /etc", r"inbox = '/etc': must .*inside the project"),
        (
            "webhook: file:///etc/passwd",
            r"webhook = 'file:///etc/passwd': must .*https:// or http://",
        ),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_told_early(section: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse(f"{DEFAULT}retrain: {{{section}}}\n")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "metric: acuracy, min: 0.9",
            r"gate.rules.0.metric = 'acuracy': must be one of accuracy, .*; the nearest is 'accuracy'",
        ),
        (
            "metric: accuracy, min: 93",
            r"gate.rules.0.min = 93: accuracy is a share from 0 to 1; is 0.93 meant\?",
        ),
        ("metric: macro_f1, min: 0.9", r"gate.rules.0.metric = 'macro_f1': must be one of accuracy"),
        (
            "metric: accuracy, max_drop: 0.1, on: {condition: gaussian noise}",
            r"gate.rules.0.on.condition = 'gaussian noise': must be one of patch, .*; "
            "the nearest is 'gaussian'",
        ),
        (
            "metric: balanced_accuracy, min: 0.5, on: {stratum: Shirt}",
            r"gate.rules.0.on.stratum = 'Shirt': .*metric: accuracy",
        ),
    ],
)
def test_a_rule_on_what_is_never_measured_is_told_early(rule: str, message: str):
    before, _, _ = DEFAULT.partition("  rules:\n")
    with pytest.raises(ValueError, match=f"^{message}"):
        parse(f"{before}  rules:\n    - {{{rule}}}\n")


def test_a_rule_is_held_against_the_families_that_are_measured():
    on_noise = "  rules:\n    - {metric: headline, max_drop: 0.1, on: {family: noise}}\n"
    before, _, _ = DEFAULT.partition("  rules:\n")
    parse(before + on_noise)
    only = before.replace("evaluate:\n", "evaluate:\n  families: [occlusion]\n")
    with pytest.raises(ValueError, match=r"on.family = 'noise': evaluate.families leaves it out"):
        parse(only + on_noise)


def test_what_the_data_tell_is_checked_once_they_are_known():
    before, _, _ = DEFAULT.partition("  rules:\n")
    params = parse(f"{before}  rules:\n    - {{metric: headline, min: 0.1, on: {{stratum: Shrt}}}}\n")
    params.check_rules(strata=("Shrt", "Coat"))
    with pytest.raises(
        ValueError,
        match=r"gate.rules.0.on.stratum = 'Shrt': must be one of Shirt, Coat; the nearest is 'Shirt'",
    ):
        params.check_rules(strata=("Shirt", "Coat"))
    params = parse(
        f"{before}  rules:\n    - {{metric: accuracy, min: 0.1, on: {{condition: colour temperature}}}}\n"
    )
    params.check_rules(channels=3)
    with pytest.raises(ValueError, match=r"on.condition = 'colour temperature': must be one of patch"):
        params.check_rules(channels=1)


def test_the_score_that_chooses_the_epoch_must_be_one_of_the_problem(tmp_path: Path):
    project = make_project(tmp_path / "project", "multiclass")
    path = project / "params.yaml"
    plain = path.read_text()
    path.write_text(plain.replace("epochs: 2", "epochs: 2, best_by: balanced_accuracy", 1))
    assert load(project).train.fit.best_by == "balanced_accuracy"
    path.write_text(plain.replace("epochs: 2", "epochs: 2, best_by: mean_iou", 1))
    with pytest.raises(ValueError, match=r"best_by = 'mean_iou': must be headline or .*balanced_acc"):
        load(project)


@pytest.mark.parametrize(
    ("kind", "method", "message"),
    [
        (
            "regression",
            "none",
            r"train.fit.label_smoothing = 0.1: this is not defined for a regression problem; set it to 0",
        ),
        (
            "multilabel",
            "costs",
            r"augment.balance.method = costs: this is not defined for a multilabel problem; set it to none",
        ),
    ],
)
def test_an_option_of_the_loss_that_the_problem_lacks_is_told_early(kind: str, method: str, message: str):
    text = change("kind: multiclass", f"kind: {kind}").replace("metric: accuracy", "metric: headline")
    with pytest.raises(ValueError, match=message):
        parse(text.replace("method: none", f"method: {method}"))


CLIPS = toy_params("clip", families="")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("inputs: [clip]}\ningest", "inputs: [clip, image]}\ningest", "either an image or a clip"),
        ("inputs: [clip]}\ningest", "}\ningest", r"problem\.inputs = image, but ingest gives clip"),
        (
            "source: toys, truth: class, count: 240, size_px: 16, inputs: [clip]",
            "source: digits",
            "gives image",
        ),
        ("truth: class", "truth: points", r"truth = 'points': clips of toys have truth = class only"),
        ("clip_frames: 4", "clip_frames: 1", r"prepare\.clip_frames"),
        ("height_px: 16, ", "", r"prepare\.height_px = 0, .* at least 8"),
        ("clip_frames: 4", "keep: encoded", r"prepare\.keep concerns images"),
        ("clip_frames: 4", "near_duplicates: group", r"prepare\.near_duplicates concerns images"),
        ("families: []", "families: [noise]", r"evaluate\.families concerns images, .* set it to \[\]"),
        ("crop_px: 1", "crop_scale: [0.5, 1]", r"train\.views turns on crop"),
        ("crop_px: 1", "policy: [{name: HorizontalFlip}]", r"train\.views\.policy concerns images"),
        (
            "method: none}",
            "method: none}, copies: 1, policy: [{name: HorizontalFlip}]",
            r"augment\.copies concerns images",
        ),
    ],
)
def test_what_clips_cannot_have_is_refused(old: str, new: str, message: str):
    assert CLIPS.count(old) >= 1
    with pytest.raises(ValueError, match=message):
        parse(CLIPS.replace(old, new, 1))


def test_frames_of_clips_are_refused_without_clips():
    assert (
        parse(CLIPS).prepare.frames == 4 and parse(CLIPS.replace("clip_frames: 4, ", "")).prepare.frames == 8
    )
    with pytest.raises(ValueError, match=r"prepare\.clip_frames = 8 concerns clips, .*; leave it out"):
        parse(change("width_px: 28", "width_px: 28\n  clip_frames: 8"))
