"""`python -m sottovoce`: the command line."""

import sys

from sottovoce.cli import main

if __name__ == "__main__":
    sys.exit(main())
