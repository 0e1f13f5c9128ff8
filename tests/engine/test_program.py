"""The program format: what is accepted runs, and what a hostile peer can send ends in ModelError."""

from __future__ import annotations

import copy
import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from sottovoce.engine import program as ir
from sottovoce.engine.errors import ModelError
from sottovoce.engine.program import (
    Linear,
    MaxPool,
    Pool,
    Program,
    Relu,
    Reshape,
    SumPool,
    TensorSpec,
    Transpose,
    check,
    from_json,
)
from sottovoce.models.reference import fixed_reference

CONV = Linear(
    "conv1",
    "conv1d",
    (2, 16),
    (4, 8),
    22,
    TensorSpec("conv1.weight", (4, 1, 3), 20),
    TensorSpec("conv1.bias", (4, 16), 36),
    padding=(1, 1),
    groups=2,
    trunc_bits=15,
    relu=True,
    compare_bits=32,
    sum_pool=Pool(2, 2),
)
DENSE = Linear(
    "dense",
    "dense",
    (6,),
    (3,),
    31,
    TensorSpec("dense.weight", (3, 6), 10),
    TensorSpec("dense.bias", (3,), 31),
)
STEPS = (
    CONV,
    MaxPool("max1", (4, 8), (4, 4), 22, Pool(3, 2, (1, 0)), 32),
    Relu("relu1", (4, 4), (4, 3), 22, 32, Pool(2, 1)),
    SumPool("sum1", (4, 3), (4, 1), 22, Pool(3, 1)),
    Transpose("turn", (4, 1), (1, 4), 22),
    Relu("leaky", (1, 4), (1, 4), 20, 32, None, -3, 8, trunc_bits=10),
    Reshape("flat", (1, 4), (4,), 20),
    Linear(
        "hidden",
        "dense",
        (4,),
        (6,),
        21,
        TensorSpec("hidden.weight", (6, 4), 9),
        TensorSpec("hidden.bias", (6,), 29),
        trunc_bits=8,
        relu=True,
        compare_bits=48,
    ),
    DENSE,
)
PROGRAM = Program("small", (2, 16), 16, (-4.0,), (4.0,), ("yes", "no", "vielleicht é"), STEPS, 64, ("label",), "none")


def change(path: str, value: object) -> Program:
    """PROGRAM with the field at `path`, as in "steps.0.sum_pool.kernel", replaced."""

    def put(node: object, keys: list[str]) -> object:
        if not keys:
            return value
        if isinstance(node, tuple):
            i = int(keys[0])
            return (*node[:i], put(node[i], keys[1:]), *node[i + 1 :])
        return msgspec.structs.replace(node, **{keys[0]: put(getattr(node, keys[0]), keys[1:])})

    return put(PROGRAM, path.split("."))


def test_a_valid_program_survives_json():
    # The relu step's window of 2 adds no fraction bit, the conv's adds one: a sum and a mean.
    program = change("steps.0.out_frac_bits", 22)
    check(program)
    again = from_json(program.to_json())
    assert again == program and again.to_json() == program.to_json() and again.digest == program.digest
    assert from_json(json.dumps(json.loads(program.to_json()), indent=1).encode()).digest == program.digest


def test_a_change_changes_the_digest():
    assert change("calibrated", True).digest != PROGRAM.digest


def test_a_transpose_of_no_matrix_is_refused():
    turn = Transpose("turn", (4,), (4,), 22)
    steps = (Reshape("flat", (4, 1), (4,), 22), turn, *STEPS[6:])
    with pytest.raises(ModelError, match=r"step 'turn': dimensions of in_shape: expected 2 to 2, got 1"):
        check(msgspec.structs.replace(PROGRAM, steps=STEPS[:4] + steps))


def test_counts():
    assert PROGRAM.parameters == 4 * 3 + 4 * 16 + 6 * 4 + 6 + 3 * 6 + 3
    assert PROGRAM.multiplications == 4 * 16 * 3 + 24 + 18
    assert [t.name for t in PROGRAM.tensors[:2]] == ["conv1.weight", "conv1.bias"]
    assert PROGRAM.frac_bits == 31


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("format", 2, "format: expected 1, got 2"),
        ("name", "", "name"),
        ("name", "a" * 65, "name"),
        ("name", "../up", "name"),
        ("name", "a\n", "name"),
        ("input_shape", (2,), r"input_shape: expected \(channels, time\)"),
        ("input_shape", (0, 16), "input_shape: expected 1 to"),
        ("input_shape", (1 << 20, 1 << 20), "elements of input_shape"),
        ("input_frac_bits", 41, "input_frac_bits"),
        ("input_frac_bits", 15, "step 'conv1': fraction bits of the bias: expected 35, got 36"),
        ("input_low", (), "input_low: expected 1 or 32 numbers, got 0"),
        ("input_low", (0.0, 0.0), "input_low"),
        ("input_low", (5.0,), "low <= high"),
        ("input_high", (4.0,) * 31 + (-5.0,), "low <= high"),
        ("input_high", (math.inf,), "input_high: expected finite"),
        ("input_high", (2.0**46,), "input_high: expected finite numbers below"),
        ("input_low", (math.nan,), "input_low: expected finite"),
        ("labels", ("a", "b"), r"one logit per label.*expected \(2,\), got \(3,\)"),
        ("labels", ("a",), "number of labels"),
        ("labels", tuple(map(str, range(1025))), "number of labels"),
        ("labels", ("a", "a", "b"), "labels: expected different"),
        ("labels", ("a", "b", "\x1b[2J"), "label: expected 1 to 64 printable"),
        ("labels", ("a", "b", "c" * 65), "label: expected"),
        ("labels", ("a", "b", ""), "label: expected"),
        ("features", "x" * 257, "features"),
        ("outputs", (), "outputs"),
        ("outputs", ("label", "label"), "outputs"),
        ("compare_bits", 33, r"compare_bits: expected one of \(32, 48, 64\), got 33"),
        ("steps", (), "number of steps"),
        ("steps.0.in_shape", (1, 16), r"step 'conv1': in_shape: expected \(2, 16\), got \(1, 16\)"),
        ("steps.0.out_shape", (4, 16), r"step 'conv1': out_shape: expected \(4, 8\), got \(4, 16\)"),
        ("steps.0.name", "dense", "name: expected a new one, got 'dense'"),
        ("steps.0.weight.name", "dense.weight", "name: expected a new one"),
        ("steps.0.weight.shape", (4, 2, 3), "input channels of the weight: expected 1, got 2"),
        ("steps.0.weight.shape", (3, 1, 3), "groups: expected a divisor"),
        ("steps.0.weight.shape", (4, 3), "weight"),
        ("steps.0.weight.frac_bits", 21, "fraction bits of the bias"),
        ("steps.0.weight.frac_bits", 63, "fraction bits of 'conv1.weight'"),
        ("steps.0.bias.shape", (4,), r"shape of the bias: expected \(4, 1\) or \(4, 16\)"),
        ("steps.0.bias.shape", (4, 8), "shape of the bias"),
        ("steps.0.stride", 0, "stride: expected 1 to"),
        ("steps.0.stride", -1, "stride"),
        ("steps.0.dilation", 1 << 40, "dilation"),
        ("steps.0.dilation", 20, "window span"),
        ("steps.0.groups", 0, "groups"),
        ("steps.0.groups", 3, "groups"),
        ("steps.0.padding", (3, 0), "padding: expected 0 to 2, got 3"),
        ("steps.0.padding", (-1, 0), "padding"),
        ("steps.0.trunc_bits", 33, "trunc_bits: expected 0 to 32, got 33"),
        ("steps.0.trunc_bits", 13, "out_frac_bits: expected 23 or 24, got 22"),
        ("steps.0.out_frac_bits", 20, "out_frac_bits: expected 21 or 22, got 20"),
        ("steps.0.compare_bits", 0, "step 'conv1': compare_bits"),
        ("steps.0.sum_pool.kernel", 0, "pool kernel"),
        ("steps.0.sum_pool.stride", 0, "pool stride"),
        ("steps.0.sum_pool.kernel", 17, "window span"),
        ("steps.0.sum_pool.padding", (2, 0), "padding: expected 0 to 1, got 2"),
        ("steps.1.out_shape", (4, 5), "step 'max1': out_shape"),
        ("steps.1.out_frac_bits", 23, "step 'max1': out_frac_bits: expected 22, got 23"),
        ("steps.1.compare_bits", 31, "step 'max1': compare_bits"),
        ("steps.2.out_frac_bits", 24, "step 'relu1': out_frac_bits: expected 22 or 23, got 24"),
        ("steps.3.out_frac_bits", 23, "step 'sum1': out_frac_bits: expected 22, got 23"),
        ("steps.4.out_shape", (4, 1), r"step 'turn': out_shape: expected \(1, 4\), got \(4, 1\)"),
        ("steps.4.out_shape", (4,), "step 'turn': out_shape"),
        ("steps.4.out_frac_bits", 21, "step 'turn': out_frac_bits: expected 22, got 21"),
        ("steps.5.slope", (1 << 30) + 1, "step 'leaky': slope: expected -1073741824 to 1073741824, got 1073741825"),
        ("steps.5.slope", -(10**30), "step 'leaky': slope"),
        ("steps.5.slope_bits", 31, "step 'leaky': slope_bits: expected 0 to 30, got 31"),
        ("steps.5.slope_bits", -1, "step 'leaky': slope_bits"),
        ("steps.5.slope_bits", 9, "step 'leaky': out_frac_bits: expected 21, got 20"),
        ("steps.5.trunc_bits", 33, "step 'leaky': trunc_bits: expected 0 to 32, got 33"),
        ("steps.5.trunc_bits", 0, "step 'leaky': out_frac_bits: expected 30, got 20"),
        ("steps.6.out_shape", (2, 3), "step 'flat': number of elements: expected 4, got 6"),
        ("steps.6.out_shape", (1, 1, 2, 2), "step 'flat': dimensions"),
        ("steps.6.out_shape", (-2, -2), "step 'flat': out_shape"),
        ("steps.6.out_frac_bits", 21, "step 'flat': out_frac_bits"),
        ("steps.7.stride", 2, "step 'hidden': stride, padding, dilation, groups of dense"),
        ("steps.7.in_shape", (4, 1), "step 'hidden': in_shape"),
        ("steps.8.weight.shape", (3, 5), "step 'dense': columns of the weight: expected 6, got 5"),
        ("steps.8.weight.shape", (1 << 29, 6), "step 'dense': shape of 'dense.weight'"),
        ("steps.8.bias.shape", (4,), "step 'dense': shape of the bias"),
        ("steps.8.sum_pool", Pool(1, 1), r"step 'dense': expected \(channels, time\) before a window"),
    ],
)
def test_one_wrong_field_is_refused_by_name(path, value, words):
    with pytest.raises(ModelError, match=words):
        check(change(path, value))


def test_total_work_is_bounded():
    """Every single tensor is small enough, all together they are not."""
    wide = 1 << 13
    steps = tuple(
        Linear(
            f"d{i}",
            "dense",
            (wide,),
            (wide,),
            16 + i,
            TensorSpec(f"w{i}", (wide, wide), 1),
            TensorSpec(f"b{i}", (wide,), 17 + i),
        )
        for i in range(3)
    )
    steps = tuple(msgspec.structs.replace(s, out_frac_bits=17 + i) for i, s in enumerate(steps))
    start = Reshape("flat", (1, wide), (wide,), 16)
    end = Linear("out", "dense", (wide,), (2,), 20, TensorSpec("w", (2, wide), 1), TensorSpec("b", (2,), 20))
    with pytest.raises(ModelError, match="parameters: expected 0 to"):
        check(Program("big", (1, wide), 16, (0.0,), (1.0,), ("a", "b"), (start, *steps, end)))
    time = 1 << 20
    conv = Linear(
        "c",
        "conv1d",
        (16, time),
        (16, time),
        16,
        TensorSpec("w", (16, 16, 4097), 0),
        TensorSpec("b", (16, 1), 16),
        padding=(4096, 0),
    )
    pool = SumPool("s", (16, time), (16, 16), 16, Pool(1, 1 << 16))
    flat = Reshape("r", (16, 16), (256,), 16)
    out = Linear("o", "dense", (256,), (2,), 16, TensorSpec("ow", (2, 256), 0), TensorSpec("ob", (2,), 16))
    slow = Program("big", (16, time), 16, (0.0,), (1.0,), ("a", "b"), (conv, pool, flat, out))
    with pytest.raises(ModelError, match="multiplications"):
        check(slow)


def test_the_largest_array_of_one_clip_is_bounded():
    """What a step makes on its way counts, not only what it hands on: windows of a maximum, a product before a pool."""
    time, kernel = 1 << 16, 1 << 15
    out = time - kernel + 1
    pool = MaxPool("m", (1, time), (1, out), 16, Pool(kernel, 1))
    narrow = SumPool("s", (1, out), (1, 2), 16, Pool(1, out - 1))
    flat = Reshape("r", (1, 2), (2,), 16)
    end = Linear("o", "dense", (2,), (2,), 16, TensorSpec("ow", (2, 2), 0), TensorSpec("ob", (2,), 16))
    with pytest.raises(ModelError, match="largest array"):
        check(Program("p", (1, time), 16, (0.0,), (1.0,), ("a", "b"), (pool, narrow, flat, end)))
    product = Linear(
        "c",
        "conv1d",
        (1, time),
        (1024, 2),
        16,
        TensorSpec("cw", (1024, 1, 1), 0),
        TensorSpec("cb", (1024, 1), 16),
        sum_pool=Pool(1, time - 1),
    )
    flat = Reshape("r", (1024, 2), (2048,), 16)
    end = Linear("o", "dense", (2048,), (2,), 16, TensorSpec("ow", (2, 2048), 0), TensorSpec("ob", (2,), 16))
    with pytest.raises(ModelError, match="largest array"):
        check(Program("p", (1, time), 16, (0.0,), (1.0,), ("a", "b"), (product, flat, end)))
    assert PROGRAM.width == max(math.prod(CONV.linear_shape), 4 * 4 * 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"name":' * 50_000,
        b'{"format": 1' + b"0" * 5000 + b"}",
        b'{"name": "\\ud800"}',
        b" " * (ir.MAX_JSON_BYTES + 1),
    ],
)
def test_what_is_no_program_is_refused(data):
    with pytest.raises(ModelError):
        from_json(data)


def test_unknown_fields_and_steps_are_refused():
    tree = json.loads(PROGRAM.to_json())
    for key in ("extra", "weights"):
        with pytest.raises(ModelError):
            from_json(json.dumps(tree | {key: 1}).encode())
    tree["steps"][1]["type"] = "eval\x1b[31m"
    with pytest.raises(ModelError) as caught:
        from_json(json.dumps(tree).encode())
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_messages_about_hostile_values_stay_short_and_printable():
    for path, value in (
        ("name", "\x1b]0;" + "x" * 10_000),
        ("steps.0.stride", 10**6000),
        ("labels", ("a", "b", "\u202e")),
    ):
        with pytest.raises(ModelError) as caught:
            check(change(path, value))
        assert str(caught.value).isascii() and str(caught.value).isprintable() and len(str(caught.value)) < 400


# ---- fuzz: mutated JSON is a valid program that runs, or ModelError ----------------------------------------------

numbers = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63)]),
    st.floats(),
    st.booleans(),
    st.none(),
)
junk = st.recursive(
    st.one_of(numbers, st.text(max_size=5), st.sampled_from(["dense", "conv1d", "linear", "relu", "label", "scores"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "name", "kernel"]), inner),
    max_leaves=6,
)


def paths(tree: object, prefix: tuple = ()) -> list[tuple]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [prefix] * bool(prefix) + [p for key, value in items for p in paths(value, (*prefix, key))]


def accept_or_refuse(data: bytes) -> None:
    try:
        program = from_json(data)
    except ModelError:
        return
    again = from_json(program.to_json())
    assert again == program and again.digest == program.digest
    elements = math.prod(program.input_shape) + sum(math.prod(s.out_shape) for s in program.steps)
    if elements + program.parameters + program.multiplications < 100_000:
        weights = {t.name: np.zeros(t.shape, dtype=np.uint64) for t in program.tensors}
        x = np.zeros((2, *program.input_shape), dtype=np.uint64)
        for step in program.steps:
            if isinstance(step, Linear):
                assert step.bias.shape in (step.linear_shape, (step.linear_shape[0], 1))
        assert fixed_reference(program, weights, x).shape == (2, len(program.labels))


@given(st.data())
@examples(max_examples=400)
def test_mutated_trees(data):
    tree = json.loads(PROGRAM.to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths(tree)))
        node = tree
        for key in path[:-1]:
            node = node[key]
        action = data.draw(st.sampled_from(["set", "set", "delete", "copy", "nudge"]))
        if action == "delete":
            del node[path[-1]]
        elif action == "copy" and isinstance(node, list):
            node.insert(data.draw(st.integers(0, len(node))), copy.deepcopy(node[path[-1]]))
        elif action == "nudge" and type(node[path[-1]]) is int:
            node[path[-1]] += data.draw(st.sampled_from([-1, 1, 2]))
        else:
            node[path[-1]] = data.draw(junk)
    accept_or_refuse(json.dumps(tree).encode())


@given(st.data())
@examples(max_examples=300)
def test_mutated_bytes(data):
    raw = bytearray(PROGRAM.to_json())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        action = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if action == "flip":
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        elif action == "cut":
            del raw[at : at + data.draw(st.integers(1, 8))]
        else:
            raw[at:at] = data.draw(
                st.sampled_from([b"0", b"9", b"-", b"1e9", b'"', b"[", b"]", b"\xff", b"null", b","])
            )
    accept_or_refuse(bytes(raw))
