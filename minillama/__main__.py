"""`python -m minillama` is the command `minillama`; `torchrun -m minillama` needs it."""

import sys

from minillama.cli import main

sys.exit(main())
