"""The scripts need Ray or Spark, which pytest would import for their examples."""

collect_ignore_glob = ["*.py"]
