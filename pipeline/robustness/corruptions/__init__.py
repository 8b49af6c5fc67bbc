"""Corruptions: what weather, cameras and files do to pictures, at severities from 1 to 5.

noise, blur, weather, digital   the 15 kinds of ImageNet-C (Hendrycks and Dietterich, ICLR 2019)
camera                          what else cameras do
kinds                           all of them by name, from uint8 to uint8

A corruption is a function of an image (h, w, 3), float32 in 0 to 1, a severity and a random
generator. The numbers of each severity are those of the authors' code (make_imagenet_c.py) for
224 px, but for elastic_transform; lengths grow with the shorter side of the image.
"""
