"""Measurements of time and memory; they are no tests."""
