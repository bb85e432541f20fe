"""The command line: ``python -m sktransfer``."""
