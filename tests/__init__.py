"""The tests; a package, so that child processes find it before any other of this name."""
