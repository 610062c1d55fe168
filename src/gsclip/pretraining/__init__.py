"""Training of the embedded backbone, apart from the pipeline: its result ships with the package."""
