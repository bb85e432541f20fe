"""A report of a transfer as one HTML file."""
