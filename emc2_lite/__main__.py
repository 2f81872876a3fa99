"""``python -m emc2_lite``: the command line, in one process or in each of torchrun's."""

import os
import sys

from emc2_lite.cli import main

if __name__ == "__main__":
    try:
        main(prog_name="emc2-lite")
    except SystemExit as end:
        if "WORLD_SIZE" not in os.environ:
            raise
        # gloo's threads still hold tensors, and may abort the interpreter's end (pytorch/pytorch, issue 190489)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))
