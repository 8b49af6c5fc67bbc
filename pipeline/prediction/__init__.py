"""`fieldmark predict`: a model in production on images, folders, videos and cameras.

It streams, and it needs no torch.
"""
