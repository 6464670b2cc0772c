"""``python -m gpuatac.cli``."""

import sys

from gpuatac.cli import main

sys.exit(main())
