"""`python -m backgrid` is the command `backgrid`."""

from backgrid.cli import main

main(prog_name="backgrid")
