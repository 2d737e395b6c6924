"""The command line, as `python -m age_gender` where the package is installed."""

import sys

from .cli import main

sys.exit(main())
