"""The command line, as `python -m age_gender` where the package is installed."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
