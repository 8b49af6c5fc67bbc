"""From the bytes of a file to pixels: decode, turn upright, enhance, make square.

images      all of that; preprocessing and serving both use it
exif        the orientation, place and camera that a file names; images turns pixels by the first
jpeg, png   decoded strictly: what Pillow lets pass is damage
tiff        what its tags say about the pixels; directories: its pages
colour      other modes and depths to 8-bit RGB
cost        the memory that decoding takes, before it begins
squares     pixels fitted into a square, and enhanced
reasons     why bytes are no usable image
faces       blurring of faces that are in a picture by chance
symmetry    the views of an image that mean the same
sheets      contact sheets and thumbnails
"""
