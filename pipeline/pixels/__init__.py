"""From the bytes of a file to pixels: decode, turn upright, enhance, make square.

images      all of that; preprocessing and serving both use it
faces       blurring of faces that are in a picture by chance
symmetry    the views of an image that mean the same
sheets      contact sheets and thumbnails
"""
