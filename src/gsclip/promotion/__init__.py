"""Which model is in use: the gate between a new model and the champion, the registry, the champion's files."""
