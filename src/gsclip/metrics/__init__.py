"""Ranking metrics, per-region overlap, decision threshold, and the table that puts chance and oracle beside each."""
