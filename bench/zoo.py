"""The tables of the zoo in docs/zoo.md, in Markdown, from the compiled models: `python -m sottovoce.bench.zoo`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from sottovoce.engine.cost import predict_cost
from sottovoce.engine.protocols.table import find
from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.explain import explain
from sottovoce.models.zoo import MODELS, build, random_weights

BATCH = 1
SEED = 0
PROTOCOL = "rep3"


def compile_random(name: str) -> Compiled:
    """A model of the zoo with random weights."""
    return compile_graph(build(name, random_weights(name, SEED)))


def zoo_tables(compiled: Callable[[str], Compiled] = compile_random) -> str:
    """What each model is, and what one clip costs under `PROTOCOL`; `compiled` gives a model by its name."""
    models = ["| model | features | input | layers | parameters | trained weights |", "|---|---|---|---|---|---|"]
    costs = [
        "| model | multiplications | comparisons | m of each layer | rounds | bytes |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in MODELS.items():
        model = compiled(name)
        found = explain(model, BATCH)
        steps = predict_cost(model.program, find(PROTOCOL), BATCH)
        shape = " x ".join(map(str, row.feature_set.input_shape))
        card = "none" if row.weights is None else f"[card](../models/zoo/{row.weights}/MODEL_CARD.md)"
        models.append(f"| `{name}` | `{row.features}` | {shape} | {row.layers} | {found.model_parameters:,} | {card} |")
        widths = ", ".join(f"{step.name} {step.compare_bits}" for step in found.rows if step.compare_bits)
        rounds, sent = sum(step.rounds for step in steps), sum(sum(step.bytes_sent) for step in steps)
        work = f"{found.total.multiplications:,} | {found.total.comparisons:,}"
        costs.append(f"| `{name}` | {work} | {widths} | {rounds} | {sent:,} |")
    return "\n".join([*models, "", *costs])


if __name__ == "__main__":
    sys.stdout.write(zoo_tables() + "\n")
