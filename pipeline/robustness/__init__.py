"""What remains of a model's accuracy where images are attacked, corrupted or drowned in noise.

attacks      changes that somebody makes on purpose, one module each
corruptions  changes that weather, cameras and files make
"""
