"""One person's photo leaves the project.

traces      where a photo, or a folder made with it, lies on this machine
forget      removes them, and lists what cannot be reached
"""
