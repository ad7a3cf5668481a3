"""`python -m featherpose` is the command line."""

from featherpose.cli import main

main()
