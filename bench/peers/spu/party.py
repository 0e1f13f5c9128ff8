"""One party of SPU: runs in SPU's environment, imports nothing of this package, and answers JSON lines.

First line in: {"rank", "addresses": ["host:port", …], "folder", "timeout_s", "protocol", "fraction_bits"}; answer {}.
Then {"prepare": b} answered by {}, and {"run": b} by {"labels", "ms", "bytes_sent", "rounds", "memory_mb"}. An error
ends the process. `folder` has model.json and weights.npz (see bench/peers/model.py) and inputs-<b>.npy, (b, channels,
time). Party 0 owns the weights, the last party the features: they send the others their shares, untimed.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SENT = re.compile(r"Link details: total send bytes (\d+)")
RESULT = "labels"


class Party:
    """This process's shares of the model, and one compiled program per batch size."""

    def __init__(self, config: dict[str, Any]) -> None:
        from spu import Io, Runtime, libspu

        self._spu = libspu
        self._rank, self._parties = config["rank"], len(config["addresses"])
        self._folder = Path(config["folder"])
        self._log = self._folder / f"spu-{self._rank}.log"
        options = libspu.logging.LogOptions()
        options.enable_console_logger = False
        options.system_log_path = str(self._log)
        libspu.logging.setup_logging(options)
        described = libspu.link.Desc()
        described.recv_timeout_ms = int(1000 * config["timeout_s"])
        for rank, address in enumerate(config["addresses"]):
            described.add_party(f"party{rank}", address)
        self._link = libspu.link.create_brpc(described, self._rank)
        self._settings = libspu.RuntimeConfig(
            protocol=getattr(libspu.ProtocolKind, config["protocol"]),
            field=libspu.FieldType.FM64,
            fxp_fraction_bits=config["fraction_bits"],
        )
        self._io = Io(self._parties, self._settings)
        self._runtime = Runtime(self._link, self._settings)
        self._layers = json.loads((self._folder / "model.json").read_text())
        self._weights = {
            f"{position}.{part}": tuple(layer[f"{part}_shape"])
            for position, layer in enumerate(self._layers)
            for part in ("weight", "bias")
            if f"{part}_shape" in layer
        }
        owner = 0
        owned = dict(np.load(self._folder / "weights.npz")) if self._rank == owner else {}
        for name in self._weights:
            self._runtime.set_var(name, self._shared(owned.get(name), owner))
        self._programs: dict[int, Any] = {}
        self._sent: dict[int, int | None] = {}

    def prepare(self, batch: int) -> dict[str, Any]:
        """Compile, share the features, and run once with SPU's own profile on: it logs the bytes."""
        from spu import Runtime, libspu
        from spu.utils import frontend

        features = f"inputs-{batch}"
        shape = (batch, *self._layers[0]["before"])
        placeholders = [np.zeros(s, np.float32) for s in (shape, *self._weights.values())]
        program, _ = frontend.compile(
            frontend.Kind.JAX,
            lambda x, *weights: classify(self._layers, x, dict(zip(self._weights, weights, strict=True))),
            placeholders,
            {},
            [features, *self._weights],
            [libspu.Visibility.VIS_SECRET] * len(placeholders),
            lambda outputs: [RESULT],
        )
        owner = self._parties - 1
        owned = np.load(self._folder / f"{features}.npy") if self._rank == owner else None
        self._runtime.set_var(features, self._shared(owned, owner))
        self._programs[batch] = program
        profiled = libspu.RuntimeConfig(self._settings)
        profiled.enable_pphlo_profile = True
        counting = Runtime(self._link, profiled)
        for name in (features, *self._weights):
            counting.set_var(name, self._runtime.get_var(name))
        self._open(counting, batch)
        found = SENT.findall(self._log.read_text(errors="replace"))
        self._sent[batch] = int(found[-1]) if found else None
        return {}

    def run(self, batch: int) -> dict[str, Any]:
        """Classify once, timed from a barrier until the opened labels are here."""
        self._link.barrier()
        start = time.perf_counter()
        labels = self._open(self._runtime, batch)
        elapsed = 1000 * (time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3
        return {
            "labels": labels.tolist(), "ms": elapsed, "bytes_sent": self._sent[batch], "rounds": None,
            "memory_mb": peak,
        }  # fmt: skip

    def _open(self, runtime: Any, batch: int) -> np.ndarray[Any, Any]:
        """Run the program; its result is public."""
        runtime.run(self._programs[batch])
        labels: np.ndarray[Any, Any] = self._io.reconstruct([runtime.get_var(RESULT)] * self._parties)
        return labels

    def _shared(self, values: np.ndarray[Any, Any] | None, owner: int) -> Any:
        """This party's share of the owner's `values`; only the owner has them."""
        if self._rank != owner:
            share = self._spu.Share()
            share.meta = self._link.recv(owner)
            share.share_chunks = [self._link.recv(owner) for _ in range(int(self._link.recv(owner)))]
            return share
        assert values is not None
        shares = self._io.make_shares(values.astype(np.float32), self._spu.Visibility.VIS_SECRET)
        for rank, share in enumerate(shares):
            if rank != owner:
                self._link.send(rank, share.meta)
                self._link.send(rank, str(len(share.share_chunks)))
                for chunk in share.share_chunks:
                    self._link.send(rank, chunk)
        return shares[owner]


def classify(layers: list[dict[str, Any]], x: Any, weights: dict[str, Any]) -> Any:
    """The labels (batch,), made public, of x (batch, channels, time). SPU compiles this."""
    import jax.numpy as jnp
    from jax import lax
    from spu.experimental import reveal

    for position, layer in enumerate(layers):
        kind, kernel, stride, padding = layer["kind"], layer["kernel"], layer["stride"], tuple(layer["padding"])
        if kind in ("conv1d", "dense"):
            weight, bias = weights[f"{position}.weight"], weights[f"{position}.bias"]
        if kind == "conv1d":
            x = bias + lax.conv_general_dilated(
                x, weight, (stride,), [padding], rhs_dilation=(layer["dilation"],),
                dimension_numbers=("NCH", "OIH", "NCH"), feature_group_count=layer["groups"],
            )  # fmt: skip
        elif kind == "dense":
            x = x @ weight.T + bias
        elif kind == "relu":
            x = jnp.maximum(x, 0)
        elif kind == "flatten":
            x = x.reshape(x.shape[0], -1)
        else:
            mode = "edge" if kind == "maxpool" else "constant"
            x = jnp.pad(x, ((0, 0), (0, 0), padding), mode=mode)
            count = layer["after"][1]
            views = [x[:, :, i : i + stride * (count - 1) + 1 : stride] for i in range(kernel)]
            if kind == "maxpool":
                x = maximum(jnp.stack(views, axis=-1))
            else:
                x = sum(views[1:], views[0])
                x = x if layer["divisor"] == 1 else x * (1 / layer["divisor"])
    return reveal(argmax(x))


def maximum(x: Any) -> Any:
    """Of the last axis, as a tournament: n - 1 comparisons, log2(n) deep."""
    import jax.numpy as jnp

    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        winners = jnp.maximum(x[..., :half], x[..., half : 2 * half])
        x = jnp.concatenate([winners, x[..., 2 * half :]], axis=-1)
    return x[..., 0]


def argmax(x: Any) -> Any:
    """The same for the positions of the maxima: (batch, n) -> (batch,). Cheaper than jnp.argmax on shares."""
    import jax.numpy as jnp

    place = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape)
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        first = x[:, :half] >= x[:, half : 2 * half]
        x, place = (
            jnp.concatenate([jnp.where(first, y[:, :half], y[:, half : 2 * half]), y[:, 2 * half :]], axis=1)
            for y in (x, place)
        )
    return place[:, 0]


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
