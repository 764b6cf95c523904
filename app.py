"""The reference's `python app.py` with its flags: it opens the studio."""

import sys

from infinitetalk.cli.main import main

sys.exit(main(["app", *sys.argv[1:]]))
