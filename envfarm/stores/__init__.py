"""What is kept: the catalogue, blobs, episodes and trajectories."""
