"""The demo's checker accepts what a register can do and catches what it can't."""

import itertools
from math import inf
from random import Random

import pytest
from history import Operation, check


def write(value, called, returned, key="k"):
    return Operation(key, True, value, called, returned)


def read(value, called, returned, key="k"):
    return Operation(key, False, value, called, returned)


LEGAL = {
    "empty": [],
    "a read of nothing": [read(None, 0, 1)],
    "write, then read": [write("a", 0, 1), read("a", 2, 3)],
    "a read beside a write may see either": [write("a", 0, 5), read(None, 1, 2), read("a", 3, 4)],
    "an unknown write that was seen": [write("a", 0, inf), read("a", 5, 6)],
    "an unknown write that was not seen": [write("a", 0, inf), write("b", 1, 2), read("b", 5, 6)],
    "an unknown write that takes effect late": [write("a", 0, inf), write("b", 1, 2), read("b", 3, 4), read("a", 5, 6)],
    "keys are apart": [write("a", 0, 1, "x"), read(None, 2, 3, "y")],
}
ILLEGAL = {
    "an acknowledged write is lost": [write("a", 0, 1), read(None, 2, 3)],
    "a stale read": [write("a", 0, 1), write("b", 2, 3), read("a", 4, 5)],
    "a value from nowhere": [write("a", 0, 1), read("z", 2, 3)],
    "reads go back": [write("a", 0, 9), read("a", 1, 2), read(None, 3, 4)],
    "an unknown write is undone": [write("a", 0, inf), read("a", 1, 2), read(None, 3, 4)],
    "a read of a write that was not called yet": [read("a", 0, 1), write("a", 2, 3)],
}


@pytest.mark.parametrize("name", LEGAL)
def test_what_a_register_can_do_is_accepted(name):
    assert check(LEGAL[name]) == []


@pytest.mark.parametrize("name", ILLEGAL)
def test_what_it_cannot_do_is_caught_and_named(name):
    verdicts = check(ILLEGAL[name])
    assert len(verdicts) == 1
    assert "has no place in any order" in str(verdicts[0])


def explained(history):
    """By trying all orders: is there one that keeps the order of time, in which each read sees the last write?"""
    certain = [operation for operation in history if operation.returned != inf]
    unknown = [operation for operation in history if operation.returned == inf]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations([*certain, *chosen]):
                if in_time(order) and sees_itself(order):
                    return True
    return False


def in_time(order):
    return all(later.returned >= earlier.called for i, earlier in enumerate(order) for later in order[i + 1 :])


def sees_itself(order):
    value = None
    for operation in order:
        if operation.is_write:
            value = operation.value
        elif operation.value != value:
            return False
    return True


def test_it_agrees_with_trying_every_order():
    verdicts = {True: 0, False: 0}
    for seed in range(1500):
        random = Random(seed)
        history = []
        for number in range(random.randint(1, 6)):
            called = random.randint(0, 10)
            returned = called + random.randint(1, 6)
            if random.random() < 0.5:
                history.append(write(str(number), called, inf if random.random() < 0.3 else returned))
            else:
                history.append(read(random.choice([None, "0", "1", "2", "3"]), called, returned))
        legal = explained(history)
        verdicts[legal] += 1
        assert (check(history) == []) == legal, history
    assert min(verdicts.values()) > 100


def test_undecided_is_never_a_pass():
    with pytest.raises(TimeoutError, match="not decided"):
        check([write(str(number), 0, 1) for number in range(8)] + [read("z", 2, 3)], steps_max=100)
