"""`python -m infinitetalk`: the same as the `infinitetalk` command."""

import sys

from infinitetalk.cli.main import main

sys.exit(main())
