"""Step 1, data: scans and data sets become samples, the canonical form in which every later step sees a part."""
