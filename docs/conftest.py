"""pytest runs the examples in the guides; what Sphinx runs or makes is left to Sphinx."""

collect_ignore_glob = ["conf.py", "_ext/*", "_build/*", "gallery/*", "auto_gallery/*", "api/*"]
