"""`python -m bide` is `bide`."""

from bide.cli import main

main()
