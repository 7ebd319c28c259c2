"""`python -m pocketrec.cli`: the console script."""

from pocketrec.cli import main

main()
