"""World units, voxel grids, the lattice of passes, and tiles."""
