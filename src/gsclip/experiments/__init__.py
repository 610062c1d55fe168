"""Many runs at once: the grid of the ablation, and the evaluation protocols. Uses every step, as the pipeline does."""
