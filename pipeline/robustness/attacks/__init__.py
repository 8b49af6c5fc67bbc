"""Attacks: small changes of pixels, made to change the answer; one module each.

fgsm, pgd, apgd   along the gradient of the whole model
square            by questions alone, without a gradient
losses, steps     what they climb, and how a step stays inside the threat model

Every attack is a function of a model, images and labels. A model is any function from images
(n, h, w, 3), float32 in 0 to 255, to logits (n, k). The radius is that of the L-infinity ball, in
the same units: the largest change of any channel of any pixel.
"""
