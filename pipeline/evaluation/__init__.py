"""What the test images say about a model: figures with intervals, slices, abstention."""
