"""Scheduled runs of the pipeline, and what they report."""
