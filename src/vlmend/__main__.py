"""`python -m vlmend` is `vlmend`."""

from vlmend.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
