"""Step 4, prompts: the geometry of a cloud becomes one normal and one abnormal text embedding per object."""
