"""One party of CrypTen: runs in its environment, imports nothing of this package, and answers JSON lines.

First line in: {"rank", "addresses": ["host:port", …], "folder", "timeout_s", "precision_bits", "max_method",
"device"}; answer {}. Then {"prepare": b} answered by {}, and {"run": b} by {"labels", "ms", "bytes_sent", "rounds",
"memory_mb"}. An error ends the process. `folder` has model.json and weights.npz (see bench/peers/model.py) and
inputs-<b>.npy, (b, channels, time). Party 0 owns the weights, the last party the features: they share them untimed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import socket
import struct
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

SIOCGIFADDR = 0x8915


class Party:
    """This process's shares of the model and of the features, by batch size."""

    def __init__(self, config: dict[str, Any]) -> None:
        host = config["addresses"][config["rank"]].rpartition(":")[0]
        os.environ.update(
            RENDEZVOUS=f"tcp://{config['addresses'][0]}",
            WORLD_SIZE=str(len(config["addresses"])),
            RANK=str(config["rank"]),
            DISTRIBUTED_BACKEND="gloo",
            GLOO_SOCKET_IFNAME=interface(host),
        )
        self._crypten = crypten = load_crypten()
        crypten.init()
        crypten.cfg.encoder.precision_bits = config["precision_bits"]
        crypten.cfg.functions.max_method = config["max_method"]
        self._device = config["device"]
        self._rank, self._parties = config["rank"], len(config["addresses"])
        self._folder = Path(config["folder"])
        self._layers = json.loads((self._folder / "model.json").read_text())
        owned = dict(np.load(self._folder / "weights.npz")) if self._rank == 0 else {}
        self._weights = {
            f"{position}.{part}": self._shared(owned.get(f"{position}.{part}"), layer[f"{part}_shape"], owner=0)
            for position, layer in enumerate(self._layers)
            for part in ("weight", "bias")
            if f"{part}_shape" in layer
        }
        self._features: dict[int, Any] = {}
        self._sent: dict[int, int] = {}
        self._rounds: dict[int, int] = {}

    def prepare(self, batch: int) -> dict[str, Any]:
        """Share the features, and run once with CrypTen's own counters on."""
        owner = self._parties - 1
        owned = np.load(self._folder / f"inputs-{batch}.npy") if self._rank == owner else None
        self._features[batch] = self._shared(owned, (batch, *self._layers[0]["before"]), owner)
        self._crypten.cfg.communicator.verbose = True
        self._crypten.reset_communication_stats()
        self._classify(batch)
        counted = self._crypten.communicator.get()
        # It counts what a party sends and what it receives; with two parties all exchanges are symmetric.
        self._sent[batch], self._rounds[batch] = int(counted.comm_bytes) // 2, int(counted.comm_rounds)
        self._crypten.cfg.communicator.verbose = False
        return {}

    def run(self, batch: int) -> dict[str, Any]:
        """Classify once, timed from a barrier until the opened labels are here."""
        self._crypten.communicator.get().barrier()
        start = time.perf_counter()
        labels = self._classify(batch)
        elapsed = 1000 * (time.perf_counter() - start)
        return {
            "labels": labels, "ms": elapsed, "bytes_sent": self._sent[batch], "rounds": self._rounds[batch],
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3,
        }  # fmt: skip

    def _shared(self, values: np.ndarray[Any, Any] | None, shape: Any, owner: int) -> Any:
        import torch

        given = torch.zeros(tuple(shape)) if values is None else torch.tensor(values, dtype=torch.float64)
        return self._crypten.cryptensor(given.to(self._device), src=owner)

    def _classify(self, batch: int) -> list[int]:
        with self._crypten.no_grad():
            logits = self._features[batch]
            for position, layer in enumerate(self._layers):
                logits = self._apply(position, layer, logits)
            labels = logits.argmax(dim=1, one_hot=False).get_plain_text()
        return [round(label) for label in labels.tolist()]

    def _apply(self, position: int, layer: dict[str, Any], x: Any) -> Any:
        kind, kernel, stride, (left, right) = layer["kind"], layer["kernel"], layer["stride"], layer["padding"]
        if kind in ("conv1d", "dense"):
            weight, bias = self._weights[f"{position}.weight"], self._weights[f"{position}.bias"]
        if kind == "conv1d":
            x = x.pad((left, right)) if left != right else x
            geometry = {"stride": stride, "dilation": layer["dilation"], "groups": layer["groups"]}
            return x.conv1d(weight, padding=left if left == right else 0, **geometry) + bias
        if kind == "dense":
            return x.matmul(weight.t()) + bias
        if kind == "relu":
            return x.relu()
        if kind == "flatten":
            return x.flatten(start_dim=1)
        if kind == "maxpool":
            edges = [x[:, :, :1]] * left + [x] + [x[:, :, -1:]] * right
            x = self._crypten.cat(edges, dim=2)
        elif left or right:
            x = x.pad((left, right))
        count = layer["after"][1]
        views = [x[:, :, i : i + stride * (count - 1) + 1 : stride] for i in range(kernel)]
        if kind == "maxpool":
            return maximum(self._crypten, self._crypten.stack(views, dim=0))
        total = sum(views[1:], views[0])
        return total if layer["divisor"] == 1 else total.div(layer["divisor"])


def maximum(crypten: Any, x: Any) -> Any:
    """Of the first axis, as a tournament: n - 1 comparisons, log2(n) deep."""
    while x.size(0) > 1:
        half = x.size(0) // 2
        first, second = x[:half], x[half : 2 * half]
        winners = crypten.where(first >= second, first, second)
        x = crypten.cat([winners, x[2 * half :]], dim=0) if x.size(0) % 2 else winners
    return x[0]


def load_crypten() -> Any:
    """Import it without its ONNX converter, whose imports have no place in current versions of torch."""
    absent = types.ModuleType("crypten.nn.onnx_converter")
    for name in ("from_onnx", "from_pytorch", "from_tensorflow", "TF_AND_TF2ONNX"):
        setattr(absent, name, None)
    sys.modules[absent.__name__] = absent
    import crypten
    import crypten.communicator

    return crypten


def interface(host: str) -> str:
    """The network interface that has this IPv4 address: gloo would take the one of the machine's name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                found = fcntl.ioctl(asked.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(found[20:24]) == host:
                    return name
    raise SystemExit(f"no network interface has the address {host}")


def main() -> None:
    """Answer until standard input ends. What the libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    party: Party | None = None
    for line in sys.stdin:
        message = json.loads(line)
        if party is None:
            party, answer = Party(message), {}
        elif "prepare" in message:
            answer = party.prepare(message["prepare"])
        else:
            answer = party.run(message["run"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
