"""What is known about labels and images before training: doubts, duplicates, quality, decisions,
the split.
"""
