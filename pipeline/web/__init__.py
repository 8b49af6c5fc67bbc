"""What the pages of one file share and may load."""
