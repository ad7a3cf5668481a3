"""`python -m featherpose` runs the command line."""

from featherpose.cli import main

main()
