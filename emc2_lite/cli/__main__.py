"""``python -m emc2_lite.cli``."""

from emc2_lite.cli import main

if __name__ == "__main__":
    main(prog_name="emc2-lite")
