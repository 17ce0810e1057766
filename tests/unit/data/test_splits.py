from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temper.data.dataset.duplicates import (
    CONTRADICTION,
    IN_TEST,
    IN_VALIDATION,
    REPEATED,
    digest_pixels,
    find_duplicates,
)
from temper.data.dataset.splits import SPLITS, assign_splits, check_strata, count_strata
from temper.problem import Row

OPEN = {"validation_share": 0.1, "test_share": 0.2, "seed": 3}


def rows_of(*splits: str | None) -> list[Row]:
    return [Row(str(i), f"{i}.png", split=split) for i, split in enumerate(splits)]


def classes(*names: str) -> list[frozenset[str]]:
    return [frozenset({name}) for name in names]


def test_shares_are_exact_per_class() -> None:
    strata = classes(*["a"] * 100, *["b"] * 50)
    splits = assign_splits(rows_of(*[None] * 150), strata, **OPEN)
    assert count_strata(splits, strata) == {
        "train": {"a": 72, "b": 36},
        "validation": {"a": 8, "b": 4},
        "test": {"a": 20, "b": 10},
    }


def test_the_same_seed_gives_the_same_splits_and_another_gives_others() -> None:
    strata = classes(*["a", "b"] * 50)
    rows = rows_of(*[None] * 100)
    assert assign_splits(rows, strata, **OPEN) == assign_splits(rows, strata, **OPEN)
    assert assign_splits(rows, strata, **OPEN) != assign_splits(rows, strata, **OPEN | {"seed": 4})


def test_official_splits_stay_and_validation_comes_out_of_training() -> None:
    rows = rows_of(*["train"] * 40, *["test"] * 20)
    splits = assign_splits(rows, classes(*["a", "b"] * 30), **OPEN)
    assert splits[40:] == ["test"] * 20
    assert Counter(splits[:40]) == {"train": 36, "validation": 4}


def test_all_three_official_splits_are_untouched() -> None:
    official = ["train", "validation", "test"] * 4
    assert assign_splits(rows_of(*official), classes(*["a"] * 12), **OPEN) == official


def test_three_examples_of_a_class_are_enough() -> None:
    strata = classes(*["a"] * 50, *["b"] * 3)
    splits = assign_splits(rows_of(*[None] * 53), strata, **OPEN | {"test_share": 0.7})
    assert all(count["b"] == 1 for count in count_strata(splits, strata).values())


def test_a_class_absent_from_a_split_is_named_with_the_way_out() -> None:
    strata = classes(*["a"] * 20, "b", "b")
    splits = assign_splits(rows_of(*[None] * 22), strata, **OPEN)
    with pytest.raises(
        ValueError, match=r"class 'b' has no example in the \w+ split .* at least 3 .*add images"
    ):
        check_strata(count_strata(splits, strata), official=frozenset())


def test_all_classes_absent_from_a_split_are_named_at_once() -> None:
    rows = rows_of(*["train"] * 20, "test")
    strata = classes(*["a", "b", "c", "d"] * 5, "a")
    counts = count_strata(assign_splits(rows, strata, **OPEN), strata)
    with pytest.raises(
        ValueError, match=r"3 classes have no example in the test split: 'b' .*, 'c' .*, 'd' "
    ):
        check_strata(counts, official=frozenset({"test"}))


def test_a_class_that_official_splits_spell_differently_is_told_with_the_pair() -> None:
    rows = rows_of(*["train"] * 20, *["test"] * 4)
    strata = classes(*["cat", "dog"] * 10, "cats", "cats", "dog", "dog")
    counts = count_strata(assign_splits(rows, strata, **OPEN), strata)
    with pytest.raises(ValueError) as caught:
        check_strata(counts, official=frozenset({"train", "test"}), alike=["cats (2) and cat (10)"])
    said = str(caught.value)
    assert "'cats' has no example in the train split" in said and "'cat' has no example in the test" in said
    assert "validation split" not in said and "groups" not in said
    assert said.endswith("These names may mean the same class: cats (2) and cat (10)")


def test_a_class_of_an_official_test_split_only_needs_images_elsewhere() -> None:
    rows = rows_of(*[None] * 20, *["test"] * 4)
    strata = classes(*["a", "b"] * 10, "c", "c", "a", "b")
    counts = count_strata(assign_splits(rows, strata, **OPEN), strata)
    with pytest.raises(ValueError, match=r"'c' has no .*all its images are in splits that the source fixes"):
        check_strata(counts, official=frozenset({"test"}))


def test_labels_that_are_measurements_are_told_in_a_line() -> None:
    strata = classes(*[str(number / 7) for number in range(300)])
    counts = count_strata(assign_splits(rows_of(*[None] * 300), strata, **OPEN), strata)
    with pytest.raises(
        ValueError, match=r"300 of 300 classes have fewer than 3 .* like measurements"
    ) as caught:
        check_strata(counts, official=frozenset())
    assert len(str(caught.value)) < 300


def test_a_class_absent_from_an_official_split_is_named() -> None:
    rows = rows_of(*["train"] * 20, *["test"] * 2)
    strata = classes(*["a", "b"] * 10, "a", "a")
    counts = count_strata(assign_splits(rows, strata, **OPEN), strata)
    message = r"class 'b' has no example in the test split \(9 in train, 1 in validation\); the source fixes"
    with pytest.raises(ValueError, match=message):
        check_strata(counts, official=frozenset({"train", "test"}))


def test_a_group_in_two_official_splits_is_an_error() -> None:
    rows = [Row("x", "x", split="train", group="p1"), Row("y", "y", split="test", group="p1")]
    with pytest.raises(ValueError, match=r"group 'p1' .*two official splits: x in train, y in test"):
        assign_splits(rows, classes("a", "a"), **OPEN)


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.frozensets(st.sampled_from("abcd"), min_size=1)),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 5),
)
def test_groups_never_cross_splits(examples: list[tuple[int, frozenset[str]]], seed: int) -> None:
    rows = [Row(str(i), str(i), group=str(group)) for i, (group, _) in enumerate(examples)]
    splits = assign_splits(rows, [strata for _, strata in examples], **OPEN | {"seed": seed})
    found = defaultdict(set)
    for row, split in zip(rows, splits, strict=True):
        found[row.group].add(split)
    assert all(len(each) == 1 for each in found.values())


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(3, 40), min_size=1), st.integers(0, 5))
def test_every_class_of_three_or_more_is_in_every_split(sizes: dict[str, int], seed: int) -> None:
    strata = [frozenset({name}) for name, size in sizes.items() for _ in range(size)]
    counts = count_strata(
        assign_splits(rows_of(*[None] * len(strata)), strata, **OPEN | {"seed": seed}), strata
    )
    check_strata(counts, official=frozenset())
    for name, size in sizes.items():
        assert counts["test"][name] == max(1, int(0.2 * size + 0.5))


def test_labels_that_come_together_are_shared_out_too() -> None:
    rng = np.random.default_rng(0)
    strata = [
        frozenset(np.array(list("abcd"))[rng.random(4) < 0.4].tolist()) or frozenset({"none"})
        for _ in range(400)
    ]
    counts = count_strata(assign_splits(rows_of(*[None] * 400), strata, **OPEN), strata)
    for name in counts["test"]:
        assert counts["test"][name] / sum(counts[split][name] for split in SPLITS) == pytest.approx(
            0.2, abs=0.05
        )


@pytest.mark.parametrize(
    ("splits", "truths", "expected"),
    [
        ([None, None, None], "aaa", {1: (REPEATED, 0), 2: (REPEATED, 0)}),
        ([None, None], "ab", {0: (CONTRADICTION, 1), 1: (CONTRADICTION, 0)}),
        (["train", "test", "test"], "aaa", {0: (IN_TEST, 1)}),
        (["train", "test"], "ab", {0: (IN_TEST, 1)}),
        (["test", "test"], "ab", {}),
        (["train", "validation", "validation"], "aaa", {0: (IN_VALIDATION, 1), 2: (REPEATED, 1)}),
    ],
    ids=["repeated", "contradicting", "in test", "in test with other labels", "within test", "in validation"],
)
def test_of_equal_images_the_right_ones_stay(
    splits: list[str | None], truths: str, expected: dict[int, tuple[str, int]]
) -> None:
    assert find_duplicates(rows_of(*splits), ["same"] * len(splits), list(truths)) == expected


def test_digests_tell_images_apart() -> None:
    images = np.zeros((3, 2, 2, 1), np.uint8)
    images[2, 1, 1] = 1
    first, second, third = digest_pixels(images)
    assert first == second != third


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "train", "validation", "test"]), st.integers(0, 4), st.integers(0, 1)
        ),
        max_size=30,
    )
)
def test_no_image_is_on_both_sides_of_a_split(examples: list[tuple[str | None, int, int]]) -> None:
    rows = rows_of(*[split for split, _, _ in examples])
    dropped = find_duplicates(
        rows, [str(pixel) for _, pixel, _ in examples], [truth for _, _, truth in examples]
    )
    kept = [i for i in range(len(rows)) if i not in dropped]
    assert all(i in kept for i, row in enumerate(rows) if row.split == "test")
    for pixel in range(5):
        sides = [rows[i].split for i in kept if examples[i][1] == pixel]
        assert len(sides) <= 1 or set(sides) == {"test"}


def test_images_stay_where_they_were_and_new_ones_fill_up() -> None:
    strata = classes(*["a", "b"] * 100)
    before = assign_splits(rows_of(*[None] * 200), strata, **OPEN)
    grown = classes(*["a", "b"] * 150)
    kept = [*before, *[None] * 100]
    after = assign_splits(rows_of(*[None] * 300), grown, **OPEN, kept=kept)
    assert after[:200] == before
    assert count_strata(after, grown) == {
        "train": {"a": 108, "b": 108},
        "validation": {"a": 12, "b": 12},
        "test": {"a": 30, "b": 30},
    }
    assert assign_splits(rows_of(*[None] * 300), grown, **OPEN) != after


def test_nothing_on_record_is_as_if_there_were_no_record() -> None:
    strata = classes(*["a", "b"] * 50)
    assert assign_splits(rows_of(*[None] * 100), strata, **OPEN, kept=[None] * 100) == assign_splits(
        rows_of(*[None] * 100), strata, **OPEN
    )


def test_what_is_new_of_a_group_goes_where_the_group_is() -> None:
    rows = [Row(str(i), f"{i}.png", group=f"g{i // 4}") for i in range(80)]
    strata = classes(*["a", "b"] * 40)
    before = assign_splits(rows[:60], strata[:60], **OPEN)
    kept = [*before[:58], None, None, *[None] * 20]
    after = assign_splits(rows, strata, **OPEN, kept=kept)
    assert after[:60] == before


def test_where_too_many_are_held_nobody_is_moved() -> None:
    """The source shrank: the remaining images stay, even if the shares are no longer reached."""
    strata = classes(*["a", "b"] * 20)
    kept = ["test"] * 20 + ["train"] * 10 + ["validation"] * 10
    assert assign_splits(rows_of(*[None] * 40), strata, **OPEN, kept=kept) == kept


def test_what_the_source_says_counts_more() -> None:
    strata = classes(*["a", "b"] * 20)
    official = [*["test"] * 10, *["train"] * 30]
    kept = ["train"] * 10 + ["validation"] * 4 + ["test"] * 26
    after = assign_splits(rows_of(*official), strata, **OPEN, kept=kept)
    assert after[:10] == ["test"] * 10 and after[10:14] == ["validation"] * 4 and set(after[14:]) == {"train"}
