"""Training of both stages: losses, loops, checkpoints. Uses the steps from features to scores."""
