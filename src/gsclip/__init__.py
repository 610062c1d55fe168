"""GS-CLIP: zero-shot 3D anomaly detection on point clouds (arXiv 2602.19206)."""
