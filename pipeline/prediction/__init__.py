"""`fieldmark predict`: images, folders, videos and cameras through a model in production, streamed,
without torch.
"""
