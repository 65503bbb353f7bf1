"""From raw voxels to finished output voxels: border, normalisation, forward passes, encoding."""
