"""Many images in files: a folder of shards that is filled image by image, and can be left and taken up at any time."""
