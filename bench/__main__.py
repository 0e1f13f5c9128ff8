"""`python -m sottovoce.bench`: see online.py."""

import sys

from sottovoce.bench.online import main

sys.exit(main())
