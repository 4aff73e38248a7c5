"""`python -m align` is the program `align`, and like it looks for nothing in the current folder.

A `torch` or a `yaml` there would take the place of the real one; a source tree that holds `align` itself is kept.
"""

import os
import sys

if __name__ == "__main__":
    here = sys.path[0]
    if not sys.flags.safe_path and here == os.getcwd() and not os.path.isfile(os.path.join(here, "align/__main__.py")):
        del sys.path[0]

    from align.cli.main import entry

    entry()
