"""Step 2, views: a sample becomes nine rendered images and depth images from one list of cameras."""
