import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.order import SeededOrder


def epoch(order: SeededOrder) -> list[list[tuple[int, int]]]:
    return [list(batch) for batch in order]


def positions(batches: list[list[tuple[int, int]]]) -> list[int]:
    return [i for batch in batches for i, _ in batch]


@given(st.integers(1, 200), st.integers(1, 70), st.integers(0, 5))
def test_every_position_comes_once_an_epoch(n: int, batch_size: int, seed: int) -> None:
    order = SeededOrder(n, batch_size, seed, shuffle=True)
    batches = epoch(order)
    assert sorted(positions(batches)) == list(range(n))
    assert len(batches) == len(order)


@given(st.integers(1, 200), st.integers(1, 70))
def test_no_batch_is_larger_than_asked_for_or_much_smaller_than_another(
    n: int, batch_size: int
) -> None:
    sizes = [len(batch) for batch in SeededOrder(n, batch_size, 0, shuffle=True)]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_each_epoch_has_an_order_and_seeds_of_its_own() -> None:
    order = SeededOrder(50, 8, 0, shuffle=True)
    first, second = epoch(order), epoch(order)
    assert positions(first) != positions(second)
    assert not {seed for batch in first for _, seed in batch} & {
        seed for batch in second for _, seed in batch
    }


@given(st.integers(0, 2**31), st.integers(1, 60))
def test_the_same_seed_gives_the_same_epochs(seed: int, n: int) -> None:
    one, other = (SeededOrder(n, 8, seed, shuffle=True) for _ in range(2))
    assert [epoch(one), epoch(one)] == [epoch(other), epoch(other)]


def test_another_seed_gives_another_order() -> None:
    assert epoch(SeededOrder(50, 8, 0, shuffle=True)) != epoch(SeededOrder(50, 8, 1, shuffle=True))


def test_unshuffled_rows_come_in_their_order() -> None:
    assert positions(epoch(SeededOrder(20, 8, 3, shuffle=False))) == list(range(20))


@pytest.mark.parametrize("steps", [7, 10, 31])
def test_an_epoch_of_more_steps_passes_over_the_images_again_where_it_stopped(steps: int) -> None:
    short, long = (
        SeededOrder(20, 8, 0, shuffle=True, steps=s) for s in (0, steps)
    )  # 3 batches a pass
    passes = [batch for _ in range(2 * steps) for batch in short]
    assert len(long) == steps
    assert epoch(long) + epoch(long) == passes[: 2 * steps]


def test_fewer_steps_than_a_pass_has_leave_the_pass_whole() -> None:
    assert epoch(SeededOrder(20, 8, 0, shuffle=True, steps=2)) == epoch(
        SeededOrder(20, 8, 0, shuffle=True)
    )


def test_chances_decide_how_often_an_image_is_drawn() -> None:
    chances = np.array([0.5] + [0.5 / 99] * 99)
    drawn = positions(epoch(SeededOrder(100, 8, 0, shuffle=True, steps=130, chances=chances)))
    assert len(drawn) == 1000
    assert 400 < drawn.count(0) < 600, "some 17 standard deviations from 10, which is its share"
