"""Times of ours and of the naive re-implementations side by side: one module a group of rows of the table."""
