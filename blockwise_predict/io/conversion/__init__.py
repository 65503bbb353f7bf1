"""TIFF stacks and HDF5 datasets, converted into arrays that runs read."""
