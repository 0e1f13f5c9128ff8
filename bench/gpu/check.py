"""A process that checks kernels: `python -m sottovoce.bench.gpu.check`, for `correctness` and `sanitizers`.

With names it checks them and ends; without, it answers {"kernel": name} on its standard input, a line each. Answers
are `Checked` as JSON; an error of the device is {"error": text} and ends the process, whose device is then no more.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from sottovoce.bench.gpu.compare import QUICK, ROWS, SMALL, Effort, check_row
from sottovoce.bench.gpu.twin import Reference
from sottovoce.bench.kernels.devices import make_device, without_pool
from sottovoce.engine.errors import ConfigError
from sottovoce.kernels.gpu.device import Device

REFERENCES = Path(__file__).resolve().parents[2] / "tests" / "kernels"
"""Of a checkout; an installed package has none."""


def command(number: int, *, small: bool = False, quick: bool = False) -> list[str]:
    """What starts such a process. small: few samples and memory without a pool, for a sanitizer."""
    words = [sys.executable, "-m", "sottovoce.bench.gpu.check", "--device", str(number)]
    return [*words, *(["--small"] if small else []), *(["--quick"] if quick else [])]


def load_references(folder: Path = REFERENCES) -> Mapping[str, Reference]:
    """The kernels in big integers, from the files reference*.py of a folder; empty where there are none."""
    found: dict[str, Reference] = {}
    for path in sorted(folder.glob("reference*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found |= {row.name: getattr(module, row.name) for row in ROWS.values() if hasattr(module, row.name)}
    return found


def answers(
    names: Iterable[str], device: Device, effort: Effort, references: Mapping[str, Reference]
) -> Iterator[dict[str, object]]:
    """One for each name; nothing comes behind an error."""
    for name in names:
        try:
            if name not in ROWS:
                raise ConfigError(f"expected a kernel with a twin, got {name!r}")
            yield msgspec.to_builtins(check_row(name, device, effort, references))
        except Exception as error:  # whatever a device answers is a finding
            yield {"kernel": name, "error": f"{name}: {type(error).__name__}: {error}"}
            return


def main(words: Sequence[str]) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m sottovoce.bench.gpu.check", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="KERNEL")
    parser.add_argument("--device", type=int, default=0, help="number of the CUDA device")
    parser.add_argument("--small", action="store_true", help="few samples, every array in memory of its own")
    parser.add_argument("--quick", action="store_true", help="fewer seeds and sizes")
    args = parser.parse_args(words)
    if args.small:
        without_pool()
    effort = SMALL if args.small else QUICK if args.quick else Effort()
    names = args.names or (str(json.loads(line)["kernel"]) for line in sys.stdin)
    failed = False
    for answer in answers(names, make_device(args.device), effort, {} if args.small else load_references()):
        failed = failed or "error" in answer or answer["status"] == "wrong"
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
