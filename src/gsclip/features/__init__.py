"""Step 3, features: the frozen vision-language backbone and what it sees in every view."""
