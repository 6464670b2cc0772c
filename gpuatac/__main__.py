"""``python -m gpuatac``."""

import sys

from gpuatac.cli import main

sys.exit(main())
