"""Sections of a report: functions from the evidence to blocks and findings."""
