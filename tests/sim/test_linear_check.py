"""Checking histories: against the definition on small ones, the six rules of the search, its limits and its words."""

import os
import subprocess
import sys
from importlib import import_module
from itertools import count as count_from
from math import inf, nan
from random import Random
from typing import Any

import pytest
from linear_histories import OBJECTS, answers, explained, follows, played, spoiled

from distkit._fast import linear
from distkit.core import LocalError
from distkit.sim.linear import MODELS, CasRegister, Model, Operation, Register, Result, check, search
from distkit.sim.linear.models import Cell


@pytest.fixture(params=["distkit._fast.pure.linear", "distkit._fast.linear"], ids=["pure", "used"])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = import_module(request.param)
    monkeypatch.setattr(search, "linear", module)
    return module


def write(value: Any, called: float, returned: float = inf, process: int = 0, key: Any = None) -> Operation:
    return Operation(process, "write", value, None, called, returned, key)


def read(value: Any, called: float, returned: float, process: int = 1, key: Any = None) -> Operation:
    return Operation(process, "read", None, value, called, returned, key)


def cas(old: Any, new: Any, called: float, returned: float = inf, done: bool | None = None) -> Operation:
    return Operation(2, "cas", (old, new), done, called, returned)


class Stepped(Model):
    """A model of one's own, that does what an object of `linear_histories` does."""

    def __init__(self, name: str) -> None:
        self.first, self.does, _kinds = OBJECTS[name]

    def initial(self) -> Any:
        return (frozen(self.first),)

    def step(self, state: Any, operation: Operation) -> Any:
        outcome = self.does(state[0], operation.kind, operation.input, operation.process)
        if outcome is None or not answers(operation, frozen(outcome[1])):
            return None
        return (frozen(outcome[0]),)


def frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def small_histories(model: str, seeds: int) -> list[list[Operation]]:
    histories = []
    for seed in range(seeds):
        random = Random(seed)
        history = played(model, random, random.randint(1, 8), random.randint(2, 4), random.choice([0, 0.2, 0.5]))
        for _ in range(seed % 3):
            history = spoiled(model, history, random)
        histories.append(history)
    return histories


@pytest.mark.parametrize("model", OBJECTS)
def test_it_agrees_with_trying_every_order(build: Any, model: str) -> None:
    verdicts = {Result.OK: 0, Result.ILLEGAL: 0}
    for history in small_histories(model, 600):
        verdict = check(history, model)
        verdicts[verdict.result] += 1
        assert (verdict.result is Result.OK) == explained(model, history), history
        assert follows(model, verdict.linearized, history)
        assert (verdict.operation in history) == (verdict.result is Result.ILLEGAL)
        assert verdict.operation not in verdict.linearized
        assert verdict.history == tuple(history)
        if verdict.result is Result.OK:
            assert {each for each in history if not each.is_open} <= set(verdict.linearized)
    assert min(verdicts.values()) > 50


@pytest.mark.parametrize("model", OBJECTS)
def test_a_model_of_ones_own_gives_the_same_verdict(build: Any, model: str) -> None:
    for history in small_histories(model, 150):
        own, named = check(history, Stepped(model)), check(history, model)
        assert (own.result, own.operation) == (named.result, named.operation)


@pytest.mark.parametrize("model", OBJECTS)
def test_step_and_program_of_a_model_are_the_same(build: Any, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = small_histories(model, 150)
    by_program = [check(history, model) for history in histories]
    monkeypatch.setattr(type(MODELS[model]), "program", Model.program)
    assert [check(history, model) for history in histories] == by_program


# Rule 1: what has no answer may stay outside.


def test_the_search_ends_when_everything_answered_has_its_place(build: Any) -> None:
    history = [write(number, 0, process=number) for number in range(30)] + [
        read(number, 1, 40, process=50 + number) for number in (3, 4)
    ]
    verdict = check(history, "register")
    assert verdict.result is Result.OK
    assert len(verdict.linearized) <= 5
    assert verdict.steps < 100


def test_an_open_operation_may_be_impossible(build: Any) -> None:
    history = [
        Operation(1, "acquire", None, None, 0, 1),
        Operation(2, "release", None, None, 0, inf),
        Operation(1, "release", None, None, 2, 3),
        Operation(3, "acquire", None, None, 4, 5),
    ]
    assert check(history, "mutex").result is Result.OK


# Rule 2: an open operation whose effect nobody can have observed is left out.

DROPPABLE: dict[str, tuple[str, list[Operation], list[int]]] = {
    "an open read": ("register", [Operation(0, "read", None, None, 0, inf), read(None, 0, 1)], [0]),
    "a write that no read returned": ("register", [write(1, 0), write(2, 0), read(2, 1, 2)], [0]),
    "a write whose value another write wrote, too": ("register", [write(1, 0), write(1, 1, 2), read(1, 3, 4)], []),
    "a write that was called after the last read of its value": (
        "register",
        [write(1, 0), write(1, 3), read(1, 1, 2)],
        [1],
    ),
    "a write that was called after the last failed cas": ("cas-register", [write(3, 2), cas(1, 2, 0, 1, False)], [0]),
    "what would have to be turned into another value too late": (
        "cas-register",
        [cas(1, 2, 4), write(1, 0), cas(1, 2, 1), write(1, 4), read(2, 2, 3)],
        [0, 3],
    ),
    "a write that no cas expects": ("cas-register", [write(1, 0), cas(2, 3, 0, 1, True)], [0]),
    "a write that a cas expects": ("cas-register", [write(1, 0), cas(1, 3, 0, 1, True)], []),
    "a write that an open cas expects, whose value was read": (
        "cas-register",
        [write(1, 0), cas(1, 3, 0), read(3, 1, 2)],
        [],
    ),
    "a chain that nobody saw the end of": (
        "cas-register",
        [write(1, 0), cas(1, 2, 0), cas(2, 3, 0), read(None, 1, 2)],
        [0, 1, 2],
    ),
    "a circle that nobody saw": ("cas-register", [cas(1, 2, 0), cas(2, 1, 0), read(None, 1, 2)], [0, 1]),
    "nothing but reads where a cas failed": (
        "cas-register",
        [write(3, 0), Operation(0, "read", None, None, 0, inf), cas(1, 2, 1, 2, False)],
        [1],
    ),
    "an acquire without a release": (
        "mutex",
        [Operation(1, "acquire", None, None, 0, inf), Operation(2, "acquire", None, None, 0, 1)],
        [0],
    ),
    "an open release that lets another one in": (
        "mutex",
        [Operation(1, "release", None, None, 0, inf), Operation(2, "acquire", None, None, 0, 1)],
        [],
    ),
    "additions if nobody saw a value": (
        "counter",
        [Operation(0, "add", 1, None, 0, inf), Operation(1, "add", 1, None, 0, 1)],
        [0],
    ),
    "additions of nothing": (
        "counter",
        [Operation(0, "add", 0, None, 0, inf), Operation(0, "add", 1, None, 0, inf), read(0, 0, 1)],
        [0],
    ),
    "an enqueue that nobody got": (
        "fifo-queue",
        [
            Operation(0, "enqueue", 1, None, 0, inf),
            Operation(0, "enqueue", 2, None, 0, inf),
            Operation(1, "dequeue", None, 2, 0, 1),
            Operation(2, "dequeue", None, None, 0, inf),
        ],
        [0, 3],
    ),
    "no dequeue that may have taken what was left": (
        "fifo-queue",
        [Operation(0, "enqueue", 1, None, 0, 1), Operation(2, "dequeue", None, None, 0, inf)],
        [],
    ),
    "an append that nobody saw": (
        "append-list",
        [
            Operation(0, "append", 1, None, 0, inf),
            Operation(0, "append", 2, None, 0, inf),
            Operation(0, "append", 3, None, 0, inf),
            Operation(1, "append", 9, (2,), 0, 1),
            Operation(1, "read", None, (3,), 0, inf),
        ],
        [0, 2, 4],
    ),
}


@pytest.mark.parametrize("name", DROPPABLE)
def test_what_nobody_can_have_observed_is_left_out(name: str) -> None:
    model, history, expected = DROPPABLE[name]
    assert list(MODELS[model].droppable(history)) == expected


def test_a_failed_cas_may_need_the_write_that_nobody_read(build: Any) -> None:
    """After write 1 the cas from 1 can only have failed because the write of 3 took effect in between."""
    history = [write(1, 0, 1), write(3, 2), cas(1, 2, 3, 4, done=False)]
    assert check(history, "cas-register").result is Result.OK
    assert check([history[0], history[2]], "cas-register").result is Result.ILLEGAL


@pytest.mark.parametrize("model", OBJECTS)
def test_leaving_out_changes_no_verdict(build: Any, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = small_histories(model, 300)
    with_rule = [check(history, model) for history in histories]
    monkeypatch.setattr(type(MODELS[model]), "droppable", lambda model, operations: ())
    without = [check(history, model) for history in histories]
    assert [verdict.result for verdict in with_rule] == [verdict.result for verdict in without]
    assert sum(verdict.steps for verdict in with_rule) < sum(verdict.steps for verdict in without)


def test_leaving_one_out_may_free_another(build: Any) -> None:
    """A model that names one at a time is asked until it names none."""

    class OneByOne(Register):
        def droppable(self, operations: Any) -> list[int]:
            return list(Register.droppable(self, operations))[:1]

    history = [write(number, 0, process=number) for number in range(10)] + [read("x", 1, 2)]
    assert check(history, OneByOne()).steps == check(history, "register").steps == 1


def test_droppable_may_not_name_an_answered_operation(build: Any) -> None:
    class Wrong(Register):
        def droppable(self, operations: Any) -> list[int]:
            return [0]

    with pytest.raises(LocalError, match="droppable names an operation that is not open: process 0: write 1"):
        check([write(1, 0, 1), write(2, 0)], Wrong())


# Rule 3: equal open operations are interchangeable.


def test_equal_open_operations_are_tried_in_one_order(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    history = (
        [cas(0, 1, 0) for _ in range(7)]
        + [cas(1, 0, 0) for _ in range(7)]
        + [write(0, 0, 1), read(2, 2, 3), read(1, 3, 4)]
    )
    equal = check(history, "cas-register")
    monkeypatch.setattr(Cell, "effect", lambda model, operation: object())
    different = check(history, "cas-register")
    assert equal.result is different.result is Result.ILLEGAL
    assert equal.operation == different.operation
    assert equal.steps * 20 < different.steps


def test_by_default_only_operations_of_one_process_are_equal(build: Any) -> None:
    """A model of one's own may look at the process: here only process 2 can write."""

    class Owned(Model):
        def initial(self) -> Any:
            return 0

        def step(self, state: Any, operation: Operation) -> Any:
            if operation.kind == "read":
                return state if state == operation.output else None
            return operation.input if operation.process == 2 else None

    assert check([write(1, 0, process=1), write(1, 0, process=2), read(1, 1, 2)], Owned()).result is Result.OK
    assert check([write(1, 0, process=1), read(1, 1, 2)], Owned()).result is Result.ILLEGAL


# Rule 4: states are numbers, equal ones the same number.


def test_equal_states_are_one_state(build: Any) -> None:
    """All orders of eight additions meet in 256 sums: a search that did not know them again would try 8! orders."""

    class Sum(Model):
        def initial(self) -> Any:
            return (0, "a new tuple each time")

        def step(self, state: Any, operation: Operation) -> Any:
            if operation.kind == "read":
                return state if operation.output == state[0] else None
            return (state[0] + operation.input, "a new tuple " + "each time")

    history = [Operation(number, "add", 1 << number, None, 0, 1) for number in range(8)] + [read(-1, 2, 3)]
    verdict = check(history, Sum())
    assert verdict.result is Result.ILLEGAL
    assert verdict.steps == check(history, "counter").steps < 256 * 10


# Rule 5: keys have their turns, and the first illegal one decides.


def hard(key: Any, count: int = 16) -> list[Operation]:
    """Only a search through all subsets shows that nobody can have read this."""
    return [write(number, 0, 1, process=number, key=key) for number in range(count)] + [read("?", 2, 3, key=key)]


def test_one_hard_key_does_not_hide_an_easy_illegal_one(build: Any) -> None:
    verdict = check([*hard("a"), *hard("b"), write(1, 0, 1, key="c"), read(2, 2, 3, key="c")], "register")
    assert (verdict.result, verdict.key) == (Result.ILLEGAL, "c")
    assert verdict.steps < 20_000


def test_memory_that_a_hard_key_has_taken_does_not_hide_an_easy_illegal_one(build: Any) -> None:
    """When the easy one needs more, the hard one has most of the memory, so it is given up and the easy one goes on."""
    easy, other = hard("easy", 10), hard("hard", 70)
    limit = 260_000 * build.MEMORY_FACTOR
    assert check(other, "register", memory_bytes_max=limit).limit == "memory"
    verdict = check([*easy, *other], "register", memory_bytes_max=limit)
    assert (verdict.result, verdict.key) == (Result.ILLEGAL, "easy")


def test_a_key_that_was_given_up_leaves_the_history_undecided(build: Any) -> None:
    history = [write(1, 0, 1, key="z"), *hard("a", 20)]
    verdict = check(history, "register", memory_bytes_max=300_000 * build.MEMORY_FACTOR)
    assert (verdict.result, verdict.key, verdict.limit) == (Result.UNKNOWN, "a", "memory")
    assert len(verdict.linearized) == 20


# Rule 6: ok, illegal or unknown, in words.


def test_it_names_the_first_operation_that_has_no_place(build: Any) -> None:
    history = [
        write(1, 0, 1, key="x"),
        read(1, 2, 9, key="x"),
        write(2, 3, 4, process=2, key="x"),
        read(1, 5, 6, process=3, key="x"),
        read(7, 10, 11, key="x"),
        read(None, 0, 1, key="y"),
    ]
    verdict = check(history, "register")
    assert (verdict.result, verdict.key, verdict.operation) == (Result.ILLEGAL, "x", history[3])
    assert verdict.linearized == (history[0], history[1], history[2])
    assert verdict.history == tuple(history[:5])
    assert verdict.text().splitlines() == [
        "not linearizable: key 'x': no order has a place for",
        "    process 3: read -> 1, called 5, answered 6",
        "after the longest order found, 3 of 5 operations:",
        "    process 0: write 1, called 0, answered 1",
        "    process 1: read -> 1, called 2, answered 9",
        "    process 2: write 2, called 3, answered 4",
    ]


def test_undecided_is_never_a_pass(build: Any) -> None:
    verdict = check(hard(None), "register", steps_max=1000)
    assert (verdict.result, verdict.steps, verdict.limit) == (Result.UNKNOWN, 1000, "steps")
    assert verdict.operation is None
    assert "undecided, which is no pass: 17 operations, and the limit of steps is reached" in verdict.text()
    assert check([write(1, 0, 1)], "register", steps_max=0).result is Result.UNKNOWN


def test_a_history_that_is_ok_has_a_witness(build: Any) -> None:
    history = [write(1, 0, 5), read(None, 1, 2), read(1, 3, 4), write(9, 3)]
    verdict = check(reversed(history), "register")
    assert verdict.linearized == (history[1], history[0], history[2])
    assert verdict.text() == f"linearizable ({verdict.steps} steps)"
    assert check([], "register").result is Result.OK


# Key-value.


def inside(operation: Operation) -> Operation:
    """The operation of a key-value map with the key in its input."""
    given = operation.key
    if operation.kind in ("put", "cas"):
        given = (operation.key, *(operation.input if operation.kind == "cas" else (operation.input,)))
    return Operation(operation.process, operation.kind, given, operation.output, operation.called, operation.returned)


def test_a_key_value_map_is_a_register_for_each_key(build: Any) -> None:
    words = {"read": "get", "write": "put", "cas": "cas"}
    illegal = 0
    for seed in range(100):
        registers = []
        for key in "ab":
            random = Random(seed * 2 + (key == "b"))
            history = spoiled("cas-register", played("cas-register", random, 8), random)
            registers += [Operation(o.process, o.kind, o.input, o.output, o.called, o.returned, key) for o in history]
        pairs = [Operation(o.process, words[o.kind], o.input, o.output, o.called, o.returned, o.key) for o in registers]
        verdicts = [
            check(registers, "cas-register"),
            check(pairs, "key-value"),
            check([inside(operation) for operation in pairs], "key-value"),
        ]
        assert len({(verdict.result, verdict.key, verdict.steps) for verdict in verdicts}) == 1
        illegal += verdicts[0].result is Result.ILLEGAL
    assert 20 < illegal < 80


def test_a_deleted_key_is_absent(build: Any) -> None:
    history = [
        Operation(0, "put", 1, None, 0, 1, "k"),
        Operation(0, "delete", None, True, 2, 3, "k"),
        Operation(1, "get", None, None, 4, 5, "k"),
        Operation(1, "cas", (None, 2), True, 6, 7, "k"),
        Operation(1, "get", None, 2, 8, 9, "k"),
    ]
    assert check(history, "key-value").result is Result.OK
    assert check([inside(operation) for operation in history], "key-value").result is Result.OK
    assert check([*history[:2], Operation(1, "get", None, 1, 4, 5, "k")], "key-value").result is Result.ILLEGAL


# Time, memory, order.


def test_two_events_at_one_time_are_concurrent(build: Any) -> None:
    assert check([write(1, 0, 5), read(None, 5, 6)], "register").result is Result.OK
    assert check([write(1, 0, 5), read(None, 5.001, 6)], "register").result is Result.ILLEGAL
    assert check([write(1, 5, 5), read(None, 5, 5)], "register").result is Result.OK


def test_memory_ends_the_search(build: Any) -> None:
    """With twice the memory it comes twice as far, and no farther."""
    steps = []
    for limit in (200_000, 400_000, 800_000):
        verdict = check(hard(None, 24), "register", memory_bytes_max=limit * build.MEMORY_FACTOR)
        assert (verdict.result, verdict.limit) == (Result.UNKNOWN, "memory")
        steps.append(verdict.steps)
    assert 1.5 * steps[0] < steps[1] < 3 * steps[0]
    assert 1.5 * steps[1] < steps[2] < 3 * steps[1]


@pytest.mark.parametrize("count", [1000, 32_000])
def test_memory_grows_with_the_length_of_the_history_and_no_faster(count: int) -> None:
    """Each operation overlaps with the one before it and the one after it."""
    limit = count * 250 * linear.MEMORY_FACTOR
    times = [(number, number + 1.5) for number in range(count)]
    register = [write(n, *t) if n % 2 == 0 else read(n - 1, *t) for n, t in enumerate(times)]
    queue: list[Operation] = []
    pushed, popped = count_from(0), count_from(0)
    for n, t in enumerate(times):
        if n < 200 or n % 2 == 0:
            queue.append(Operation(0, "enqueue", next(pushed), None, *t))
        else:
            queue.append(Operation(1, "dequeue", None, next(popped), *t))
    appends = [Operation(0, "append", n, None, *t) for n, t in enumerate(times)]
    whole = Operation(1, "read", None, tuple(range(count)), count + 2, count + 3)
    assert check(register, "register", memory_bytes_max=limit).result is Result.OK
    assert check(queue, "fifo-queue", memory_bytes_max=limit).result is Result.OK
    assert check([*appends, whole], "append-list", memory_bytes_max=limit).result is Result.OK


SCRIPT = """
from random import Random
from linear_histories import played, spoiled
from distkit.sim.linear import Operation, check
for seed in range(20):
    random = Random(seed)
    history = spoiled("cas-register", played("cas-register", random, 40, 5), random)
    words = [Operation(f"p{each.process}", each.kind, *map(str, (each.input, each.output)), each.called, each.returned,
                       "k" + str(each.process % 3)) for each in history if each.kind != "cas"]
    verdict = check(words, "register")
    print(verdict.text(), verdict.key, verdict.steps)
"""


def test_it_does_not_depend_on_hash_order() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(said) == 1
    assert said.pop().count("not linearizable") > 5


# Bad input.


@pytest.mark.parametrize(
    ("history", "model", "words"),
    [
        ([], "rwlock", "there is no model 'rwlock'; there are register, cas-register, mutex"),
        ([write(1, 3, 2)], "register", "it must be answered after its call"),
        ([write(1, nan, 2)], "register", "it must be answered after its call"),
        ([write(1, 0, nan)], "register", "it must be answered after its call"),
        ([write(1, inf)], "register", "it must be answered after its call"),
        ([write(1, -inf)], "register", "it must be answered after its call"),
        ([write(1, "0", 2)], "register", "Times are numbers"),  # type: ignore[arg-type]
        ([write([1], 0, 1)], "register", "turn lists into tuples"),
        ([read(1, 0, 1, key=["k"])], "register", "turn lists into tuples"),
        ([Operation(0, "increment", 1, None, 0, 1)], "register", "the model knows read, write, not 'increment'"),
        ([cas(1, 2, 0, 1, True)], "register", "the model knows read, write, not 'cas'"),
        ([Operation(0, "x", 1, None, 0, 1)], "cas-register", "the model knows read, write, cas, not 'x'"),
        ([Operation(0, "x", 1, None, 0, 1)], "mutex", "the model knows acquire, release, not 'x'"),
        ([Operation(0, "x", 1, None, 0, 1)], "counter", "the model knows add, read, not 'x'"),
        ([Operation(0, "x", 1, None, 0, 1)], "fifo-queue", "the model knows enqueue, dequeue, not 'x'"),
        ([Operation(0, "x", 1, None, 0, 1)], "append-list", "the model knows append, read, not 'x'"),
        ([Operation(0, "x", 1, None, 0, 1, "k")], "key-value", "the model knows get, put, cas, delete, not 'x'"),
        ([Operation(0, "put", 1, None, 0, 1)], "key-value", "an operation without a key must have it in its input"),
        ([Operation(0, "put", ("k", 1, 2), None, 0, 1)], "key-value", r"a put without a key must be of \(key, value\)"),
        ([Operation(0, "cas", ("k", 1), True, 0, 1)], "key-value", r"a cas must be of \(old, new\)"),
        ([Operation(0, "cas", 5, True, 0, 1)], "cas-register", r"a cas must be of \(old, new\)"),
        ([cas(1, 2, 0, 1, None)], "cas-register", "a cas must be answered True or False"),
        ([Operation(0, "add", "1", None, 0, 1)], "counter", "'1' is not a whole number"),
        ([Operation(0, "add", True, None, 0, 1)], "counter", "True is not a whole number"),
        ([Operation(0, "add", 1, 1.0, 0, 1)], "counter", "1.0 is not a whole number"),
        ([read(None, 0, 1)], "counter", "a counter's read must have an answer"),
        ([Operation(0, "add", 1 << 70, None, 0, 1)], "counter", "is no instruction"),
        ([Operation(0, "enqueue", None, None, 0, 1)], "fifo-queue", "None can't be enqueued"),
        ([read(5, 0, 1)], "append-list", "the answer must be a tuple"),
    ],
)
def test_bad_histories_are_refused_with_words(history: list[Operation], model: str, words: str) -> None:
    with pytest.raises(LocalError, match=words):
        check(history, model)


def test_an_error_of_a_model_names_the_operation(build: Any) -> None:
    class Broken(CasRegister):
        def program(self, operations: Any) -> None:
            return None

        def step(self, state: Any, operation: Operation) -> Any:
            raise KeyError(7)

    with pytest.raises(KeyError) as caught:
        check([write(1, 0, 1)], Broken())
    assert caught.value.__notes__ == ["in the step of the model for process 0: write 1, called 0, answered 1"]


def test_models_must_keep_to_the_interface(build: Any) -> None:
    class Odd(Model):
        def initial(self) -> Any:
            return None

        def step(self, state: Any, operation: Operation) -> Any:
            return []

    with pytest.raises(LocalError, match="the initial state of the model is None"):
        check([write(1, 0, 1)], Odd())
    Odd.initial = lambda self: 0  # type: ignore[method-assign]
    with pytest.raises(LocalError, match=r"the state \[\] of the model must be hashable"):
        check([write(1, 0, 1)], Odd())
