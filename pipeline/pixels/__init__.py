"""From the bytes of a file to pixels: decode, turn upright, enhance, make square.

images      all of that; preprocessing and serving both come through here
faces       blurring those that are in a picture by chance
symmetry    the views of an image that show the same thing
sheets      contact sheets and thumbnails
"""
