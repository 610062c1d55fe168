"""Step 6, scores: similarities of views and patches become one score per point and one per object."""
