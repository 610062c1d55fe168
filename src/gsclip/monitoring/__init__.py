"""Statistics of scans and scores, one row a sample, and the comparison of two such tables."""
