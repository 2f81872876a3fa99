"""``python -m emc2_lite``: the command line."""

from emc2_lite.cli import main

if __name__ == "__main__":
    main(prog_name="emc2-lite")
