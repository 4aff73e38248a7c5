"""`python -m align` is the program `align`."""

from align.cli.main import entry

if __name__ == "__main__":
    entry()
