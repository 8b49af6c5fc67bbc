"""The page on which people decide on doubtful labels and label unlabelled images."""
