"""``python -m sktransfer``."""

import sys

from sktransfer.cli.main import main

sys.exit(main())
