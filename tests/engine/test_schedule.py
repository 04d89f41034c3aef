"""The rule of who gets free slots, on random lines: see `schedule.py`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pixelsnail_infer.runtime.engine.schedule import choose


@dataclass(eq=False)
class Asked:
    priority: int
    images: int


lines = st.lists(st.builds(Asked, st.integers(-2, 2), st.integers(1, 9)), max_size=12)
slots = st.integers(0, 20)


def slowly(line: list[Asked], free: int) -> tuple[list[Asked], list[Asked]]:
    """The rule, one image at a time, by looking through the whole line."""
    left, order, chosen = {id(one): one.images for one in line}, list(line), []
    while order and len(chosen) < free:
        one = max(order, key=lambda asked: asked.priority)  # the first of the highest
        chosen.append(one)
        order.remove(one)
        left[id(one)] -= 1
        if left[id(one)]:
            order.append(one)
    return chosen, sorted(order, key=lambda asked: -asked.priority)


@given(lines, slots)
def test_it_is_the_rule(line: list[Asked], free: int) -> None:
    before = [(one.priority, one.images) for one in line]
    assert choose(line, free) == slowly(line, free)
    assert [(one.priority, one.images) for one in line] == before


@given(lines, slots)
def test_no_slot_stays_free_and_none_is_given_twice(line: list[Asked], free: int) -> None:
    chosen, left = choose(line, free)
    counts = Counter(map(id, chosen))
    assert len(chosen) == min(free, sum(one.images for one in line))
    assert all(counts[id(one)] <= one.images for one in line)
    assert {id(one) for one in left} == {id(one) for one in line if counts[id(one)] < one.images}


@given(lines, slots)
def test_none_of_lower_priority_goes_before_one_of_higher(line: list[Asked], free: int) -> None:
    chosen, left = choose(line, free)
    assert [one.priority for one in chosen] == sorted((one.priority for one in chosen), reverse=True)
    assert not chosen or all(one.priority <= chosen[-1].priority for one in left)


@given(lines, slots)
def test_shares_within_a_priority_differ_by_one_at_most(line: list[Asked], free: int) -> None:
    chosen, left = choose(line, free)
    counts = Counter(map(id, chosen))
    for one in left:  # who has more to come is behind nobody of its priority by more than one
        peers = [counts[id(other)] for other in line if other.priority == one.priority]
        assert max(peers) - counts[id(one)] <= 1


@given(st.integers(2, 200), st.integers(1, 4))
def test_a_large_request_is_not_starved_by_small_ones_that_keep_coming(images: int, free: int) -> None:
    """Nor do these wait for more than one image of it."""
    large, line, turns = Asked(0, images), [], 0
    line.append(large)
    while large in line:
        line += [Asked(0, 1) for _ in range(free)]
        chosen, line = choose(line, free)
        large.images -= chosen.count(large)
        turns += 1
        assert turns <= 3 * images + 3 and len(line) <= 3 * free + images
        if turns > 2 * images:
            line = [one for one in line if one is large]  # the small ones stop


@given(st.integers(1, 50), st.integers(1, 50))
def test_one_image_waits_for_one_of_every_request_before_it(requests: int, images: int) -> None:
    small = Asked(0, 1)
    line = [Asked(0, images) for _ in range(requests)] + [small]
    chosen, _ = choose(line, requests + 1)
    assert chosen.index(small) == requests
