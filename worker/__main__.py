"""``python -m worker``: the same as ``sixbot``, from this very interpreter."""

from worker.cli import main

main()
