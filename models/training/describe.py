"""The layers of a graph in words, for the model card."""

from __future__ import annotations

from sottovoce.models.graph import (
    Affine,
    AvgPool,
    BatchNorm,
    Conv1d,
    Dense,
    Graph,
    Identity,
    LeakyRelu,
    MaxPool,
    Node,
    Relu,
    Reshape,
    SumPool,
    Transpose,
    same_padding,
)


def describe(graph: Graph) -> list[str]:
    """One phrase per layer, such as "Conv1D(128, 5, same)"; layers that do nothing at inference are left out."""
    return [_phrase(node) for node in graph.nodes if not isinstance(node, Identity)]


def _phrase(node: Node) -> str:
    if isinstance(node, Conv1d):
        channels, _, kernel = node.weight.shape
        same = node.padding == same_padding(kernel, node.dilation)
        parts = [str(channels), str(kernel)] + (["same"] if same else [f"padding {node.padding}"] * any(node.padding))
        parts += [f"{name} {n}" for name in ("stride", "dilation", "groups") if (n := getattr(node, name)) != 1]
        return f"Conv1D({', '.join(parts)})"
    if isinstance(node, Dense):
        return f"Dense({node.weight.shape[0]})"
    if isinstance(node, AvgPool | SumPool | MaxPool):
        parts = [str(node.kernel)] + ([f"stride {node.stride}"] if node.stride != node.kernel else [])
        parts += [f"padding {node.padding}"] if any(node.padding) else []
        return f"{type(node).__name__}({', '.join(parts)})"
    if isinstance(node, LeakyRelu):
        return f"LeakyReLU({node.slope:g})"
    if isinstance(node, Reshape):
        return "Flatten" if node.shape is None or len(node.shape) == 1 else f"Reshape{node.shape}"
    return {Affine: "Affine", BatchNorm: "BatchNorm", Relu: "ReLU", Transpose: "Transpose"}[type(node)]
