"""The compiler: the fixed-point program means what the model means, within the bound that it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from sottovoce.engine import fixed
from sottovoce.engine import program as ir
from sottovoce.engine.errors import FeatureError, ModelError, RangeProofError
from sottovoce.models.compiler import ranges
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.evaluate import evaluate
from sottovoce.models.explain import explain
from sottovoce.models.graph import (
    Affine,
    AvgPool,
    Conv1d,
    Dense,
    Graph,
    LeakyRelu,
    MaxPool,
    Relu,
    Reshape,
    SumPool,
    Transpose,
)
from sottovoce.models.reference import fixed_reference
from sottovoce.models.zoo import build, paper


def paper_weights(rng) -> dict[str, np.ndarray]:
    shapes = {
        "conv1.weight": ((128, 1, 5), 0.02),
        "conv1.bias": ((128, 40), 1.0),
        "conv2.weight": ((128, 128, 5), 0.04),
        "conv2.bias": ((128,), 0.1),
        "dense.weight": ((8, 1280), 0.05),
        "dense.bias": ((8,), 0.1),
    }
    return {name: (rng.normal(size=shape) * size).astype(np.float32) for name, (shape, size) in shapes.items()}


def simple(*nodes, labels=2, shape=(1, 4), low=(-1.0,), high=(1.0,)) -> Graph:
    return Graph("simple", shape, nodes, tuple("abcdefgh"[:labels]), low, high)


def head(inputs: int = 4, size: float = 1.0) -> tuple[Reshape, Dense]:
    return Reshape("flat"), Dense("out", np.full((2, inputs), size) * [[1], [-1]], np.zeros(2))


def logits(compiled, x, rounding="nearest"):
    program = compiled.program
    integers = fixed_reference(program, compiled.weights, encode_input(program, x), rounding)
    return fixed.decode(fixed.as_ring(integers), program.frac_bits)


def climb(graph: Graph, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Corners of the box, moved one feature at a time towards a larger difference of two logits."""
    low, high = graph.box()
    for feature in rng.permutation(low.size)[:40]:
        a, b = x.copy(), x.copy()
        a.reshape(len(x), -1)[:, feature] = low.flat[feature]
        b.reshape(len(x), -1)[:, feature] = high.flat[feature]
        gain = [np.ptp(evaluate(graph, v), axis=1) for v in (a, b)]
        x = np.where((gain[0] > gain[1])[:, None, None], a, b)
    return x


@given(st.integers(0, 10**6), st.sampled_from([16, 8, 24, 40]), st.sampled_from(["auto", 48, 64]))
@examples(max_examples=40)
def test_fixed_point_stays_within_the_promised_error(random_graph, box_inputs, seed, frac_bits, compare_bits):
    """Inside the box, at its corners, and at corners that make activations large; for every way to truncate.

    fixed_reference refuses to run when a range promise is broken, so this also tries to break the range proof.
    """
    graph = random_graph(seed)
    try:
        compiled = compile_graph(graph, input_frac_bits=frac_bits, compare_bits=compare_bits)
    except RangeProofError:
        assume(False)
    rng = np.random.default_rng(seed)
    x = box_inputs(graph, rng, 4)
    x = np.concatenate([x, climb(graph, x[4:6], rng)])
    real = evaluate(graph, x)
    floats = 1e-12 * (1 + abs(real).max())
    for rounding in ("nearest", "down", "up"):
        error = logits(compiled, x, rounding) - real
        assert np.all(abs(error) <= np.asarray(compiled.report.logit_errors) + floats)
        assert np.all(np.ptp(error, axis=1) <= compiled.report.margin_bound + floats)


def test_the_promised_error_is_not_far_from_the_worst_seen(random_graph, box_inputs, rng):
    """The bound is a bound on what happens, not a huge number: within a factor 300 of a random search."""
    for seed in range(5):
        graph = random_graph(seed)
        compiled = compile_graph(graph, input_frac_bits=10)
        x = box_inputs(graph, rng, 200)
        worst = np.ptp(logits(compiled, x) - evaluate(graph, x), axis=1).max()
        assert compiled.report.margin_bound < 300 * worst


def test_the_first_layers_range_is_reached(rng):
    """The corner that maximises one neuron reaches the proven bound of the integers: the interval is the exact one."""
    weight = rng.normal(size=(1, 1, 5))
    nodes = (Conv1d("c", weight, rng.normal(size=1)), Relu("r"), *head(1))
    graph = simple(*nodes, shape=(1, 5), low=(-7.0,), high=(3.0,))
    compiled = compile_graph(graph)
    corner = np.where(weight > 0, 3.0, -7.0)
    value = logits(compiled, corner)[0, 0]
    assert value == pytest.approx(compiled.report.layers[0].high, rel=1e-4)


def test_same_label_outside_the_margin(random_graph, box_inputs, rng):
    for seed in range(10):
        graph = random_graph(seed)
        compiled = compile_graph(graph)
        x = box_inputs(graph, rng, 50)
        real = evaluate(graph, x)
        top = np.sort(real, axis=1)
        clear = top[:, -1] - top[:, -2] > compiled.report.margin_bound
        assert np.all((logits(compiled, x).argmax(axis=1) == real.argmax(axis=1))[clear])


def test_scales_of_a_program_add_up_and_it_survives_json(random_graph):
    for seed in range(10):
        program = compile_graph(random_graph(seed)).program
        again = ir.from_json(program.to_json())
        assert again == program and again.digest == program.digest


def test_compiling_is_deterministic(random_graph):
    first, second = compile_graph(random_graph(4)), compile_graph(random_graph(4))
    assert first.program == second.program
    assert all(np.array_equal(first.weights[k], second.weights[k]) for k in first.weights)


def test_the_program_holds_no_weight(rng):
    """Two models that differ in their weights' signs only give the same public bytes."""
    weight = rng.normal(size=(3, 1, 3))
    programs = []
    for sign in (1, -1):
        conv = Conv1d("c", sign * weight, np.zeros(3), padding=(1, 1))
        programs.append(compile_graph(simple(conv, Relu("r"), *head(12))).program.to_json())
    assert programs[0] == programs[1]


def test_tensors_match_their_declaration(random_graph):
    for seed in range(10):
        compiled = compile_graph(random_graph(seed))
        assert {t.name: t.shape for t in compiled.program.tensors} == {k: v.shape for k, v in compiled.weights.items()}
        assert all(v.dtype == np.uint64 for v in compiled.weights.values())


def test_steps_are_fused_and_the_last_layer_is_not_truncated():
    nodes = (Conv1d("c", np.ones((2, 1, 3)), np.zeros(2), padding=(1, 1)), Relu("r"), AvgPool("p", 2, 2), *head(4))
    compiled = compile_graph(simple(*nodes))
    conv, _, dense = compiled.program.steps
    assert conv.relu and conv.sum_pool == ir.Pool(2, 2) and conv.trunc_bits > 0 and conv.compare_bits == 32
    assert not dense.relu and dense.trunc_bits == 0
    assert dense.out_frac_bits == conv.out_frac_bits + dense.weight.frac_bits
    assert compiled.report.rewrites[-1] == "no truncation before the final argmax"


@pytest.mark.parametrize("kernel", [3, 4])
def test_a_global_average_at_the_end_needs_no_truncation(rng, kernel):
    nodes = (Conv1d("c", rng.normal(size=(2, 1, 1)), np.zeros(2)), AvgPool("gap", kernel, 1), Reshape("flat"))
    graph = simple(*nodes, shape=(1, kernel))
    compiled = compile_graph(graph, input_frac_bits=32)
    assert [s.trunc_bits for s in compiled.program.steps if isinstance(s, ir.Linear)] == [0]
    x = rng.uniform(-1, 1, (20, 1, kernel))
    assert abs(logits(compiled, x) - evaluate(graph, x)).max() <= compiled.report.margin_bound < 1e-8


def test_maxpool_before_relu_needs_fewer_relus():
    nodes = (Conv1d("c", np.ones((2, 1, 3)), np.zeros(2), padding=(1, 1)), Relu("r"), MaxPool("p", 2, 2), *head(4))
    program = compile_graph(simple(*nodes)).program
    assert [type(s).__name__ for s in program.steps] == ["Linear", "MaxPool", "Relu", "Reshape", "Linear"]
    assert program.steps[2].in_shape == (2, 2)


@pytest.mark.parametrize(("size", "m"), [(1.0, 32), (2.0**22, 32), (2.0**24, 48)])
def test_the_narrowest_comparison_that_leaves_8_fraction_bits_is_taken(size, m):
    nodes = (Conv1d("c", np.full((1, 1, 1), size), np.zeros(1)), Relu("r"), *head(4, 1 / size))
    step = compile_graph(simple(*nodes)).program.steps[0]
    assert step.compare_bits == m and step.out_frac_bits >= 8


def test_what_cannot_keep_8_fraction_bits_keeps_fewer():
    nodes = (Conv1d("c", np.full((1, 1, 1), 2.0**26), np.zeros(1)), Relu("r"), *head(4, 2.0**-26))
    step = compile_graph(simple(*nodes), compare_bits=32).program.steps[0]
    assert 0 <= step.out_frac_bits < 8


def test_a_deep_model_with_a_wide_box_keeps_narrow_comparisons_and_a_useful_bound(rng):
    """Four convolutions on ±400, PyTorch's initial weights: worst cases beyond 2^17, and still 32 bits are compared."""
    nodes, channels = [], 1
    for i in range(4):
        limit = (5 * channels) ** -0.5
        weight = rng.uniform(-limit, limit, (16, channels, 5))
        nodes += [Conv1d(f"c{i}", weight, np.zeros(16), padding=(2, 2)), Relu(f"r{i}"), MaxPool(f"p{i}", 5, 2, (2, 2))]
        channels = 16
    tail = (Reshape("f"), Dense("d", rng.uniform(-0.1, 0.1, (2, 32)), np.zeros(2)))
    compiled = compile_graph(simple(*nodes, *tail, shape=(1, 24), low=(-400.0,), high=(400.0,)))
    assert {layer.compare_bits for layer in compiled.report.layers} == {None, 32}
    assert compiled.report.margin_bound < 1e-6 * compiled.report.layers[-1].high


def test_finer_features_are_taken_where_they_need_no_wider_comparison():
    assert compile_graph(simple(*head(4))).program.input_frac_bits == 20
    wide = (Conv1d("c", np.full((1, 1, 1), 2.0**12), np.zeros(1)), Relu("r"), *head(4, 2.0**-12))
    plain = compile_graph(simple(*wide), input_frac_bits=16).program
    assert compile_graph(simple(*wide)).program.steps[0].compare_bits == plain.steps[0].compare_bits


@pytest.mark.parametrize("m", [48, 64])
def test_a_wider_comparison_can_be_asked_for(m):
    nodes = (Conv1d("c", np.ones((1, 1, 1)), np.zeros(1)), Relu("r"), *head(4))
    program = compile_graph(simple(*nodes), compare_bits=m).program
    assert program.steps[0].compare_bits == m and program.compare_bits >= m


def test_a_model_that_may_overflow_is_refused_by_layer_with_the_bits():
    big = Conv1d("big", np.full((1, 1, 1), 2.0**40), np.zeros(1))
    with pytest.raises(
        RangeProofError, match=r"layer 'big': .*at most 63 bits, got 64 bits.*smaller input box.*calibrate="
    ):
        compile_graph(simple(big, Relu("r"), *head(4)))
    wide = Conv1d("wide", np.full((1, 1, 1), 2.0**34), np.zeros(1))
    with pytest.raises(RangeProofError, match=r"layer 'wide': .*at most 32 bits, got 36 bits"):
        compile_graph(simple(wide, Relu("r"), *head(4)), compare_bits=32)


@pytest.mark.parametrize(
    ("nodes", "size", "words"),
    [
        ((Relu("r"),), 2.0**50, "layer 'input': .*at most 63 bits, got 64 bits"),
        ((Relu("r"),), 2.0**25, "layer 'r': expected compared values of at most 32 bits, got 39 bits"),
        ((LeakyRelu("r", 0.3),), 2.0**25, "layer 'r': expected compared values of at most 32 bits, got 39 bits"),
        ((MaxPool("p", 2, 1, (1, 0)),), 2.0**25, "layer 'p': expected compared values of at most 32 bits, got 40 bits"),
        ((SumPool("p", 4, 1, (2, 1)),), 2.0**49, "layer 'p': expected values of at most 63 bits, got 65 bits"),
        ((Affine("a", np.full((1, 4), 2.0**50), np.zeros(1)), Relu("r")), 1.0, "layer 'a': expected a product"),
    ],
)
def test_every_kind_of_layer_is_refused_by_name_with_the_bits_and_what_to_do(nodes, size, words):
    with pytest.raises(RangeProofError, match=words + r".*smaller input box"):
        compile_graph(simple(*nodes, *head(4), low=(-size,), high=(size,)), compare_bits=32)


def test_calibration_is_advised_only_where_it_helps():
    """It narrows linear layers and what follows them; not what comes before, and not twice."""
    linear = Conv1d("c", np.full((1, 1, 1), 2.0**40), np.zeros(1))
    box = {"low": (-(2.0**25),), "high": (2.0**25,)}
    for nodes, options, helps in (
        ((Relu("r"), linear), {}, False),
        ((linear, LeakyRelu("r")), {}, True),
        ((linear, LeakyRelu("r")), {"calibrate": np.full((1, 1, 4), 2.0**25)}, False),
        ((SumPool("p", 4, 1), Reshape("f"), Dense("d", np.full((2, 1), 2.0**40), np.zeros(2))), {}, True),
    ):
        tail = () if isinstance(nodes[-1], Dense) else head(4)
        with pytest.raises(RangeProofError, match="smaller input box") as caught:
            compile_graph(simple(*nodes, *tail, **box), compare_bits=32, **options)
        assert ("--calibrated" in str(caught.value)) == helps


def test_calibration_reaches_the_argmax_over_an_only_layer(rng):
    """Pairs of logits are trusted to differ by no more than their calibrated ranges do."""
    weight = rng.choice([-1e3, 1e3], (2, 40))
    graph = simple(Reshape("f"), Dense("d", weight, np.zeros(2)), shape=(1, 40), low=(-1e12,), high=(1e12,))
    samples = rng.normal(size=(50, 1, 40))
    with pytest.raises(RangeProofError, match=r"layer 'd'.*--calibrated"):
        compile_graph(graph)
    compiled = compile_graph(graph, calibrate=samples)
    assert compiled.program.calibrated and compiled.report.layers[-1].calibrated
    error = logits(compiled, samples) - evaluate(graph, samples)
    assert np.ptp(error, axis=1).max() <= compiled.report.margin_bound


def test_many_labels_are_bounded_without_all_pairs_of_them(rng, monkeypatch):
    """Time and memory of all pairs grow with the square of the labels, which a file may declare."""
    labels = tuple(f"l{i}" for i in range(600))
    nodes = (Reshape("f"), Dense("d", rng.normal(size=(600, 40)), rng.normal(size=600)))
    graph = Graph("many", (1, 40), nodes, labels, (-1.0,), (1.0,))
    seen = []
    monkeypatch.setattr(ranges, "differences", lambda *given: seen.append(given))
    compiled = compile_graph(graph)
    assert not seen
    x = rng.uniform(-1, 1, (20, 1, 40))
    error = logits(compiled, x) - evaluate(graph, x)
    assert np.ptp(error, axis=1).max() <= compiled.report.margin_bound < 1e-3


def test_a_model_without_a_linear_layer_is_told_what_is_wrong_with_it():
    with pytest.raises(ModelError, match="number of labels: expected 2 to 1024, got 1"):
        compile_graph(simple(Reshape("f"), labels=1, shape=(1, 1)))


@pytest.mark.parametrize("box", [0.0, 1e-9])
def test_weights_that_meet_small_values_only_still_fit_the_ring(box):
    compiled = compile_graph(simple(*head(4, 1e12), low=(-box,), high=(box,)))
    assert compiled.report.layers[-1].weight_frac_bits < 24
    error = logits(compiled, np.full((1, 1, 4), box)) - evaluate(simple(*head(4, 1e12)), np.full((1, 1, 4), box))
    assert abs(error).max() <= max(compiled.report.logit_errors)


@pytest.mark.parametrize("weight", [2.0**53, 1e300, 1e308])
@pytest.mark.parametrize("where", ["weight", "bias"])
def test_numbers_that_no_ring_element_holds_are_refused_by_layer(weight, where):
    weights = {"weight": np.ones((1, 1, 1)), "bias": np.zeros(1)}
    weights[where] = np.full_like(weights[where], weight)
    with pytest.raises(
        RangeProofError, match=r"layer 'c': expected weights of at most 64 bits, got (65|1008|1035) bits"
    ):
        compile_graph(simple(Conv1d("c", **weights), Relu("r"), *head(4)))


def test_a_box_and_a_factor_beyond_all_numbers_are_refused():
    with pytest.raises(RangeProofError, match=r"layer 'input': .*at most 63 bits, got 1037 bits"):
        compile_graph(simple(*head(4), low=(-1e308,), high=(1e308,)))
    with pytest.raises(ModelError, match="layer 'out': expected finite real weights"):
        compile_graph(simple(*head(4, 1e200), Affine("a", np.full(2, 1e200), np.zeros(2))))


def test_more_fraction_bits_than_a_program_holds_are_not_called_a_large_value():
    nodes = [LeakyRelu(f"r{i}", 0.0625) for i in range(12)]
    with pytest.raises(RangeProofError, match=r"layer 'out': expected at most 62 fraction bits, got 70; averages and"):
        compile_graph(simple(*nodes, *head(4)))


@pytest.mark.parametrize("slope", [1.3, -2.7, 100.3, 65535.9, -65535.9, 2 - 2.0**-40])
def test_a_steep_slope_has_the_bits_that_a_program_can_hold(rng, slope):
    graph = simple(Conv1d("c", np.ones((1, 1, 1)), np.zeros(1)), LeakyRelu("r", slope), *head(4))
    compiled = compile_graph(graph)
    leaky = compiled.program.steps[1]
    assert abs(leaky.slope) <= 2**30 and abs(leaky.slope * 2.0**-leaky.slope_bits - slope) <= 2.0**-29 * abs(slope)
    x = rng.uniform(-1, 1, (50, 1, 4))
    assert np.ptp(logits(compiled, x) - evaluate(graph, x), axis=1).max() <= compiled.report.margin_bound


def test_a_slope_that_no_program_can_hold_is_refused():
    with pytest.raises(ModelError, match=r"layer 'r': expected a slope below 2\^16"):
        compile_graph(simple(LeakyRelu("r", -(2.0**16)), *head(4)))


@pytest.mark.parametrize(
    ("slope", "numerator", "bits", "trunc_bits"),
    [(0.25, 1, 2, 0), (-0.75, -3, 2, 0), (3.0, 3, 0, 0), (1e-30, 0, 0, 0), (0.3, 322122547, 30, 30)],
)
def test_a_slope_with_few_bits_is_exact_and_any_other_is_truncated_away(slope, numerator, bits, trunc_bits):
    graph = simple(Conv1d("c", np.ones((1, 1, 1)), np.zeros(1)), LeakyRelu("r", slope), *head(4))
    conv, leaky, *_ = compile_graph(graph).program.steps
    assert (leaky.slope, leaky.slope_bits, leaky.trunc_bits) == (numerator, bits, trunc_bits)
    assert leaky.out_frac_bits == conv.out_frac_bits + bits - trunc_bits


def test_a_slope_has_the_bits_that_large_values_leave_it():
    nodes = (LeakyRelu("r", 0.3), AvgPool("p", 4, 1), Reshape("f"), Dense("d", np.ones((2, 1)), np.zeros(2)))
    step = compile_graph(simple(*nodes, low=(-(2.0**26),), high=(2.0**26,))).program.steps[0]
    most = 2.0 ** (26 + step.out_frac_bits)  # the pool's two bits are in out_frac_bits
    assert step.sum_pool is not None and 2.0**59 < most * 2**step.slope_bits < 2.0**62


@pytest.mark.parametrize("slope", [0.25, 0.3])
def test_both_truncations_before_a_last_leaky_relu_are_in_the_bound(rng, slope):
    """Exact weights, so that all error is rounding: the worst one seen is nearly the promised one, and not beyond."""
    nodes = (Reshape("f"), Dense("d", np.array([[1.0, 0, 0, 0], [0, -1, 0, 0]]), np.zeros(2)), LeakyRelu("r", slope))
    graph = simple(*nodes, low=(-300.0,), high=(300.0,))
    compiled = compile_graph(graph, input_frac_bits=30)
    dense = compiled.program.steps[1]
    x = np.rint(rng.uniform(-300, 300, (50, 1, 4)))
    unit = 2.0**-dense.out_frac_bits
    worst = max(abs(logits(compiled, x, way) - evaluate(graph, x)).max() for way in ("up", "down"))
    assert worst == pytest.approx((2 if slope == 0.3 else 1) * unit, rel=0.01)
    assert worst <= max(compiled.report.logit_errors) < 1.2 * worst


def test_a_leaky_relu_costs_little_of_the_bound(rng):
    """A rounded slope makes the bound at most twice as large as an ordinary ReLU's."""
    bounds = []
    for activation in (Relu("r"), LeakyRelu("r", 0.01)):
        weights = np.random.default_rng(5)
        conv = Conv1d("c", weights.normal(size=(8, 1, 5)), np.zeros(8), padding=(2, 2))
        dense = Dense("d", weights.normal(size=(2, 320)), np.zeros(2))
        graph = simple(conv, activation, Reshape("f"), dense, shape=(1, 40), low=(-400.0,), high=(400.0,))
        bounds.append(compile_graph(graph).report.margin_bound)
    assert bounds[1] < 2 * bounds[0]


@pytest.mark.parametrize("options", [{"compare_bits": 33}, {"input_frac_bits": -1}, {"input_frac_bits": 41}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ModelError, match="compile:"):
        compile_graph(simple(*head(4)), **options)


def test_calibration_is_on_request_and_shown(rng):
    nodes = (Conv1d("c", np.full((1, 1, 1), 2.0**20), np.zeros(1)), Relu("r"), *head(4))
    graph = simple(*nodes)
    samples = rng.uniform(-1e-3, 1e-3, (20, 1, 4))
    assert not compile_graph(graph).program.calibrated
    compiled = compile_graph(graph, calibrate=samples)
    step = compiled.program.steps[0]
    assert compiled.program.calibrated and compiled.report.calibrated and step.compare_bits == 32
    assert step.out_frac_bits + np.log2(2 * abs(samples).max() * 2.0**20) <= 31
    error = abs(logits(compiled, samples) - evaluate(graph, samples)).max()
    assert error <= compiled.report.margin_bound
    assert explain(compiled.program).calibrated
    with pytest.raises(RangeProofError):  # what calibration risks: the oracle notices, shares would not
        logits(compiled, np.ones((1, 1, 4)))


def test_calibration_works_for_every_kind_of_layer_and_tells_which_it_clipped(rng):
    big = 2.0**20
    nodes = (
        Affine("scale", np.full((1, 8), 1.0), np.zeros(1)),
        Conv1d("first", rng.normal(size=(4, 1, 1)) * big, np.zeros(4)),
        LeakyRelu("leaky", 0.01),
        MaxPool("max", 3, 2, (1, 1)),
        Affine("norm", np.full((4, 1), -1 / big), np.ones((4, 1))),
        LeakyRelu("falls", -0.5),
        MaxPool("max2", 2, 1),
        Transpose("turn"),
        Conv1d("second", rng.normal(size=(3, 3, 2)), rng.normal(size=3)),
        AvgPool("mean", 3, 1),
        Reshape("flat"),
        Affine("last", rng.normal(size=3), np.zeros(3)),
    )
    graph = simple(*nodes, labels=3, shape=(1, 8), low=(-1.0,), high=(1.0,))
    samples = rng.uniform(-1e-4, 1e-4, (50, 1, 8))
    proven, compiled = compile_graph(graph), compile_graph(graph, calibrate=samples)
    assert not any(layer.calibrated for layer in proven.report.layers)
    clipped = {layer.name for layer in compiled.report.layers if layer.calibrated}
    assert "first" in clipped and not clipped & {"leaky", "max", "turn", "flat"}
    assert compiled.program.calibrated and compiled.report.margin_bound < proven.report.margin_bound
    error = logits(compiled, samples) - evaluate(graph, samples)
    assert np.ptp(error, axis=1).max() <= compiled.report.margin_bound


@pytest.mark.parametrize(
    "samples", [np.zeros((0, 1, 4)), np.zeros((3, 4)), np.full((1, 1, 4), 2.0), np.full((1, 1, 4), np.nan)]
)
def test_wrong_samples_are_refused(samples):
    with pytest.raises(ModelError, match="calibrate"):
        compile_graph(simple(*head(4)), calibrate=samples)


def test_secrets_are_not_shown(rng):
    compiled = compile_graph(build("paper", paper_weights(rng)))
    text = repr(compiled) + repr(compiled.report.layers)
    assert "array(" not in text and " low=" not in text and "error=" not in text


# ---- the zoo's model ----------------------------------------------------------------------------------------------


def test_paper_has_the_papers_numbers(rng):
    graph = build("paper", paper_weights(rng))
    assert graph.parameters == 93_064
    program = compile_graph(graph).program
    found = explain(program)
    assert (found.model_parameters, found.total.parameters) == (93_064, 93_064)
    assert found.total.secret_elements == program.parameters == 98_056
    assert (found.total.multiplications, found.total.relus) == (855_040, 6_400)
    assert found.rows[-1].comparisons == 28
    assert [s.name for s in program.steps] == ["conv1", "conv2", "flatten", "dense"]
    assert [s.compare_bits for s in program.steps[:2]] == [32, 32]


def test_paper_is_the_network_that_was_trained(rng):
    x = rng.uniform(paper.FEATURE_LOW, paper.FEATURE_HIGH, (5, 40))
    expected = paper.forward_float(paper.load_weights(), x)
    np.testing.assert_allclose(evaluate(build("paper"), x[:, None, :]), expected, rtol=1e-9, atol=1e-9)


def test_paper_with_its_default_weights_decides_the_real_rows(shared_data):
    """At most 1 % of the real rows may lie inside the bound that the compiler gives beforehand; all others agree."""
    graph = build("paper")
    with np.load(shared_data / "ravdess" / "mfcc40_mean.npz", allow_pickle=False) as data:
        x = data["X"][:, None, :]
    compiled = compile_graph(graph)
    real = evaluate(graph, x)
    top = np.sort(real, axis=1)
    clear = top[:, -1] - top[:, -2] > compiled.report.margin_bound
    assert clear.mean() >= 0.99
    rows = np.flatnonzero(clear)[::20]
    assert np.array_equal(logits(compiled, x[rows]).argmax(axis=1), real[rows].argmax(axis=1))


# ---- explain ------------------------------------------------------------------------------------------------------


def test_explain_takes_costs_from_a_model_of_them(random_graph):
    compiled = compile_graph(random_graph(1))
    found = explain(compiled, batch=3, costs=lambda step, batch: (1, 10 * batch) if step else (7, 1))
    steps = len(compiled.program.steps)
    assert (found.total.rounds, found.total.bytes_sent) == (steps + 7, 30 * steps + 1)
    assert found.margin_bound == compiled.report.margin_bound
    assert len(found.rows) == steps + 1
    plain = explain(compiled.program)
    assert plain.margin_bound is None and plain.total.rounds is None


def test_explain_counts_comparisons_of_maxima():
    nodes = (Conv1d("c", np.ones((2, 1, 1)), np.zeros(2)), MaxPool("p", 3, 2, (1, 1)), *head(4))
    found = explain(compile_graph(simple(*nodes)), batch=5)
    assert found.rows[1].comparisons == 2 * (2 + 2) * 5  # two windows of 3; a position in the padding is compared too


def test_explain_names_the_new_layers_and_counts_them():
    nodes = (
        Transpose("turn"),
        LeakyRelu("leaky", 0.25),
        Affine("scale", np.array([[1.0], [-1.0], [2.0], [3.0]]), np.zeros(1)),
        MaxPool("max", 1, 1),
        Conv1d("c", np.ones((1, 4, 1)), np.zeros(1)),
        Reshape("flat"),
        Dense("d", np.ones((2, 2)), np.zeros(2)),
    )
    found = explain(compile_graph(simple(*nodes, shape=(2, 4))), batch=3)
    rows = {row.name: row for row in found.rows}
    assert [row.kind for row in found.rows[:4]] == ["leaky relu", "transpose", "depthwise", "maxpool"]
    assert rows["leaky"].slope == 0.25 and rows["leaky"].relus == 8 * 3 and rows["scale"].slope is None
    assert (rows["scale"].multiplications, rows["scale"].parameters) == (8 * 3, 8)
    assert "an affine map that no layer absorbs becomes a depthwise convolution" in found.rewrites


# ---- features -----------------------------------------------------------------------------------------------------


def program(low=(-1.0, -2.0, -3.0, -4.0), high=(1.0,)) -> ir.Program:
    return compile_graph(simple(*head(4), low=low, high=high), input_frac_bits=16).program


def test_features_round_half_to_even():
    unit = 2.0**-16
    x = np.array([[[0.5, 1.5, 2.5, -0.5]]]) * unit
    assert fixed.as_signed(encode_input(program(), x)).tolist() == [[[0, 2, 2, 0]]]


def test_the_box_itself_is_allowed():
    x = np.array([[[-1.0, -2.0, -3.0, -4.0]], [[1.0, 1.0, 1.0, 1.0]]])
    np.testing.assert_array_equal(fixed.decode(encode_input(program(), x), 16), x)
    assert encode_input(program(), np.zeros((1, 1, 4), dtype=np.int8)).dtype == np.uint64
    assert encode_input(program(), x[:, :, ::-1][:, :, ::-1]).flags.c_contiguous


def test_flat_rows_are_the_same_features(rng):
    x = rng.uniform(-1, 1, (3, 1, 4))
    np.testing.assert_array_equal(encode_input(program(), x.reshape(3, 4)), encode_input(program(), x))


def test_rows_of_a_cut_input_keep_their_numbers():
    with pytest.raises(FeatureError, match="row 101, feature 2:"):
        encode_input(program(), np.array([[0.0] * 4, [0, 0, 9, 0]]), first_row=100)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((0, 1, 4)), "empty batch"),
        (np.zeros((0, 4)), "empty batch"),
        (np.zeros(4), r"shape \(batch, 1, 4\), got \(4,\)"),
        (np.zeros((1, 5)), r"got \(1, 5\)"),
        (np.zeros((1, 4, 1)), r"got \(1, 4, 1\)"),
        (np.zeros((1, 1, 5)), r"got \(1, 1, 5\)"),
        (np.zeros((1, 1, 4), dtype=complex), "complex"),
        (np.zeros((1, 1, 4), dtype=bool), "bool"),
        (np.full((1, 1, 4), "a"), "dtype"),
        ([[[1.0, 2.0]], [[1.0]]], "different lengths"),
        (np.array([[[0, 0, 0, 0]], [[0, 0, np.nan, 0]]]), "row 1, feature 2: .*NaN"),
        (np.array([[[0, 0, 0, -np.inf]]]), "row 0, feature 3: .*infinity"),
        (np.array([[[0, -2.25, 0, 0]]]), r"row 0, feature 1: .*\[-2, 1\]"),
        (np.array([[[0, 0, 0, 1e12]]] * 3), r"row 0, feature 3: .*\[-4, 1\].*3 rows"),
    ],
)
def test_wrong_features_are_refused(x, words):
    with pytest.raises(FeatureError, match=words) as caught:
        encode_input(program(), x)
    assert "2.25" not in str(caught.value) and "1e+12" not in str(caught.value)
