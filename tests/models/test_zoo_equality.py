"""Every model of the zoo with random weights: under MPC, in fixed point and in onnxruntime it decides the same.

On synthetic sounds, which every machine has; tests/test_real_data.py does it on real ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.equality import compare, compare_random, random_model
from tests.signals import ADVERSARIAL

from sottovoce.bench.zoo import zoo_tables
from sottovoce.engine.protocols.table import PROTOCOLS
from sottovoce.models.speech.audio import SAMPLE_RATE, check_samples
from sottovoce.models.zoo import MODELS, list_models

SOUNDS = ("sweep", "uniform noise", "square wave")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", list_models())
def test_synthetic_sounds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    features = MODELS[name].feature_set
    rows = [features.compute(check_samples(0.1 * ADVERSARIAL[sound], SAMPLE_RATE)) for sound in SOUNDS]
    found = compare_random(name, 0, np.stack(rows).reshape(-1, *features.input_shape))
    with capsys.disabled():
        print(f"\n{name}, synthetic sounds: {found}")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["tiny", "max"])
def test_any_features_in_the_box(name: str, protocol: str, rng: np.random.Generator) -> None:
    """Also where no sound leads: inside the box, at random corners, and at the two extreme ones."""
    graph, compiled = random_model(name, 0)
    low, high = graph.box()
    inside = rng.uniform(low, high, (10, *graph.input_shape))
    corners = np.where(rng.random((10, *graph.input_shape)) < 0.5, low, high)
    found = compare(graph, compiled, np.concatenate([inside, corners, low[None], high[None]]), protocol)
    assert found.inside == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_docs_show_what_the_models_are_and_cost(repository: Path) -> None:
    page = (repository / "docs" / "zoo.md").read_text(encoding="utf-8")
    between = page.split("<!-- zoo: begin -->\n")[1].split("\n<!-- zoo: end -->")[0]
    assert between == zoo_tables(lambda name: random_model(name, 0)[1])
