"""`python -m chronocam`: the command line, where its script is not on the path."""

from chronocam.cli import main

main(prog_name="chronocam")
