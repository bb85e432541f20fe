"""The sections of a report: each a function from the evidence to blocks."""
