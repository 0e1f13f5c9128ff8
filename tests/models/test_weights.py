"""The shipped weights: the file, its card, and what was measured."""

from __future__ import annotations

import io
import json
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sottovoce.engine.errors import FeatureError, ModelError
from sottovoce.models.training.card import render
from sottovoce.models.training.measure import accuracy, confusion
from sottovoce.models.training.splits import random_split
from sottovoce.models.zoo import weights as weights_module
from sottovoce.models.zoo.paper import PARAMETERS, SHAPES, forward_float, load_weights, weights_path

FLOORS = {"random": 0.58, "by_speaker": 0.29}
FOLDER = Path(str(files("sottovoce.models.zoo.paper")))


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "results.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def dataset(shared_data: Path) -> dict[str, np.ndarray]:
    with np.load(shared_data / "ravdess" / "mfcc40_mean.npz", allow_pickle=False) as data:
        return {name: data[name] for name in ("X", "y", "block")}


def _random_network(seed: int) -> dict[str, np.ndarray]:
    """Random weights, with the same bias at all positions of the first layer."""
    rng = np.random.default_rng(seed)
    network = {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in SHAPES.items()}
    network["conv1.bias"] = np.repeat(rng.normal(size=128)[:, None], 40, axis=1)
    return network


def _features(rows: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    features = rng.normal(scale=8, size=(rows, 40))
    features[:, 0] = rng.uniform(-853, -308, size=rows)
    return features


# ---- the file -----------------------------------------------------------------------------------------------------


def test_the_shipped_file_is_small_and_holds_the_declared_arrays() -> None:
    assert weights_path().stat().st_size < 500_000
    weights = load_weights()
    assert {name: array.shape for name, array in weights.items()} == dict(SHAPES)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in weights.values())


def test_the_architecture_has_93064_parameters_and_folding_stores_39_more_biases_per_channel() -> None:
    stored = sum(int(np.prod(shape)) for shape in SHAPES.values())
    assert stored - 128 * 40 + 128 == PARAMETERS == 93_064


def test_the_shipped_weights_are_exact_in_16_fraction_bits() -> None:
    for name, array in load_weights().items():
        if name.endswith("weight"):
            scaled = array.astype(np.float64) * 2**16
            np.testing.assert_array_equal(scaled, np.round(scaled), err_msg=name)
            assert np.abs(scaled).max() > 0


def test_inner_positions_share_the_bias_that_a_plain_layer_plus_the_means_would_have() -> None:
    """b'[c, t] - b[c] = -(W' conv mean)[c, t]: 40 x 128 numbers that 40 means and 128 biases explain, no more."""
    weights = {name: array.astype(np.float64) for name, array in load_weights().items()}
    taps = weights["conv1.weight"][:, 0]  # (128, 5)
    # Unknowns: 40 means, 128 biases. Equations: 5,120.
    system = np.zeros((128, 40, 40 + 128))
    for channel in range(128):
        system[channel, :, 40 + channel] = 1
        for tap in range(5):
            for t in range(max(0, 2 - tap), min(40, 42 - tap)):
                system[channel, t, t + tap - 2] -= taps[channel, tap]
    flat = system.reshape(128 * 40, 168)
    solution = np.linalg.lstsq(flat, weights["conv1.bias"].ravel(), rcond=None)[0]
    np.testing.assert_allclose(flat @ solution, weights["conv1.bias"].ravel(), rtol=0, atol=1e-3)


def _save(path: Path, **changes: Any) -> Path:
    arrays = {**load_weights(), **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dense.bias": None}, "expected arrays"),
        ({"extra": np.zeros(3, dtype=np.float32)}, "expected arrays"),
        ({"dense.bias": np.zeros(8)}, "dense.bias of dtype float32"),
        ({"dense.bias": np.zeros(8, dtype=">f4")}, "dense.bias of dtype float32"),
        ({"conv1.bias": np.zeros(128, dtype=np.float32)}, r"conv1.bias of shape \(128, 40\)"),
        ({"dense.bias": np.array([np.nan] * 8, dtype=np.float32)}, "finite numbers in dense.bias"),
        ({"dense.bias": np.array([object()] * 8)}, "dense.bias of dtype float32, got object"),
        ({"dense.bias": np.zeros(10_000, dtype=np.float32)}, r"at most \d+ bytes, got"),
    ],
)
def test_a_file_that_is_not_these_weights_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_weights(_save(tmp_path / "other.npz", **changes))


@pytest.mark.parametrize("content", [None, b"", b"no zip file", b"PK\x03\x04 cut"])
def test_a_missing_or_broken_file_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.npz"):
        load_weights(path)


def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    arrays = {**load_weights(), "dense.bias": np.zeros(1 << 20, dtype=np.float32)}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ModelError, match="bytes unpacked"):
        load_weights(path)


def test_a_header_that_promises_a_huge_array_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path, header = tmp_path / "promise.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(8))
    with pytest.raises(ModelError, match=r"expected a of shape \(2,\), got \(1099511627776,\)"):
        weights_module.load_weights(path, {"a": ((2,),)})


def test_random_damage_is_refused_and_never_crashes(tmp_path: Path, rng: np.random.Generator) -> None:
    """Bytes of headers and of the directory, where a parser can go wrong, are overwritten; some changes do no harm."""
    path = tmp_path / "damaged.npz"
    shapes = {"a": ((2, 3),), "b": ((3,),)}
    np.savez(path, a=np.ones((2, 3), np.float32), b=np.ones(3, np.float32))
    content, refused = path.read_bytes(), 0
    for _ in range(400):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 4)):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            arrays = weights_module.load_weights(path, shapes)
        except ModelError:
            refused += 1
        else:
            assert {name: array.shape for name, array in arrays.items()} == {"a": (2, 3), "b": (3,)}
    assert refused > 200


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ModelError, match=r"one\.npy"):
        load_weights(tmp_path / "one.npy")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    path.write_bytes(weights_path().read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"cut\.npz"):
        load_weights(path)


# ---- forward_float ------------------------------------------------------------------------------------------------


def test_forward_float_is_the_network_written_as_loops() -> None:
    network = _random_network(3)
    x = np.random.default_rng(4).normal(size=40)
    pooled = np.zeros((128, 10))
    for c in range(128):
        pre = np.zeros(40)
        for t in range(40):
            taps = [network["conv1.weight"][c, 0, j] * x[t + j - 2] for j in range(5) if 0 <= t + j - 2 < 40]
            pre[t] = sum(taps) + network["conv1.bias"][c, 0]
        pooled[c] = np.maximum(pre, 0).reshape(10, 4).mean(axis=1)
    hidden = np.zeros((128, 10))
    for c in range(128):
        for t in range(10):
            inside = [j for j in range(5) if 0 <= t + j - 2 < 10]
            taps = [network["conv2.weight"][c, :, j] @ pooled[:, t + j - 2] for j in inside]
            hidden[c, t] = max(0.0, sum(taps) + network["conv2.bias"][c])
    expected = network["dense.weight"] @ hidden.ravel() + network["dense.bias"]
    np.testing.assert_allclose(forward_float(network, x[None])[0], expected, rtol=0, atol=1e-10)


def test_forward_float_in_either_precision_and_any_batch() -> None:
    weights, features = load_weights(), _features(9)
    exact = forward_float(weights, features)
    assert exact.dtype == np.float64 and exact.shape == (9, 8)
    single = forward_float(weights, features, np.float32)
    assert single.dtype == np.float32
    assert 0 < np.abs(single - exact).max() < 1e-2
    np.testing.assert_allclose(forward_float(weights, features[4:5]), exact[4:5], rtol=0, atol=1e-9)
    assert forward_float(weights, features[:0]).shape == (0, 8)


@pytest.mark.parametrize("shape", [(40,), (3, 39), (3, 1, 40)])
def test_forward_float_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(FeatureError, match="expected features of shape"):
        forward_float(load_weights(), np.zeros(shape))


# ---- what was measured --------------------------------------------------------------------------------------------


def test_the_card_says_what_the_results_say(results: dict[str, Any]) -> None:
    assert (FOLDER / "MODEL_CARD.md").read_text() == render(results)


@pytest.mark.parametrize("kind", FLOORS)
def test_accuracy_is_above_its_floor_over_the_five_seeds(results: dict[str, Any], kind: str) -> None:
    split = results["splits"][kind]
    rows = split["seeds"]
    assert [row["seed"] for row in rows] == [0, 1, 2, 3, 4]
    accuracies = [row["test_accuracy"] for row in rows]
    assert split["mean"] == pytest.approx(np.mean(accuracies), abs=1e-4)
    assert split["std"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-4)
    assert split["mean"] >= FLOORS[kind]
    assert accuracies[0] >= FLOORS[kind]
    for row in rows:
        table = np.array(row["confusion"])
        assert table.sum() == row["test_rows"]
        assert np.trace(table) / table.sum() == pytest.approx(row["test_accuracy"], abs=1e-4)


def test_the_licence_names_itself_and_credits_the_data() -> None:
    text = (FOLDER / "LICENSE-WEIGHTS").read_text()
    for words in ("CC-BY-NC-SA-4.0", "creativecommons.org/licenses/by-nc-sa/4.0/legalcode", "Livingstone", "Russo"):
        assert words in text


def test_the_shipped_weights_give_the_reported_figures(results: dict[str, Any], dataset: dict[str, np.ndarray]) -> None:
    weights, labels = load_weights(), dataset["y"]
    logits = forward_float(weights, dataset["X"])
    split = random_split(len(labels), results["shipped"]["seed"])
    row = results["splits"]["random"]["seeds"][0]
    assert row["seed"] == results["shipped"]["seed"] == 0
    assert accuracy(logits, labels, split.test) == row["test_accuracy"] >= FLOORS["random"]
    assert accuracy(logits, labels, split.train) == row["train_accuracy"]
    assert confusion(logits, labels, split.test) == row["confusion"]


def test_float32_and_float64_agree_on_the_real_rows(dataset: dict[str, np.ndarray]) -> None:
    weights = load_weights()
    single, double = (forward_float(weights, dataset["X"], kind) for kind in (np.float32, np.float64))
    assert np.abs(single - double).max() < 1e-3
