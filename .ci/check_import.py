"""Import every module of the *installed* sottovoce, not of a checkout. Run it outside the repository.

Modules that need an extra (a GPU, training, benchmarks) are left out where that extra is absent, and named.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import sysconfig
from pathlib import Path

# Only these modules may need what the package does not depend on.
EXTRAS = {
    "cupy": ("sottovoce.kernels.gpu.cupy_device",),
    "torch": ("sottovoce.models.training",),
    "pytest": ("sottovoce.bench.kernels",),
}


def main() -> int:
    package = importlib.import_module("sottovoce")
    home = Path(str(package.__file__)).resolve()
    if Path(sysconfig.get_paths()["purelib"]).resolve() not in home.parents:
        print(f"sottovoce was imported from {home}, which is not this environment's site-packages", file=sys.stderr)
        return 1
    names = [module.name for module in pkgutil.walk_packages(package.__path__, "sottovoce.")]
    for name in [name for name in names if not name.endswith("__main__")]:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            extra = (error.name or "").partition(".")[0]
            if not name.startswith(EXTRAS.get(extra, ("nothing may need it",))):
                raise
            print(f"imports: left out {name}, which needs {extra}")
    for room in ("engine", "kernels", "models", "bench", "cli"):
        if f"sottovoce.{room}" not in names:
            print(f"sottovoce.{room} is not installed", file=sys.stderr)
            return 1
    print(f"imports: {len(names)} modules from {home.parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
