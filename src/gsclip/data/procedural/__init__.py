"""Procedural data set: parts as signed distance fields, defects made on the field, and a simulated sensor."""
