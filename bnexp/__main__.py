"""``python -m bnexp``: the same as ``bnexp``."""

from bnexp.cli.app import main

if __name__ == "__main__":
    main()
