"""From raw input voxels to stored output voxels: border fill, normalisation, passes, encoding."""
