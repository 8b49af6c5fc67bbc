"""What the test images say about a model: figures with intervals, pictures, one page to hand
around.
"""
