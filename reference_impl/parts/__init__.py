"""Parts that the reference models are built from: attention, feed-forward, positions."""
