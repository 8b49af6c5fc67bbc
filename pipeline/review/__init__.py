"""The page on which people settle doubtful labels and label images that have none."""
