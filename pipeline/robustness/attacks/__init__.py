"""Attacks: small changes of pixels, made to change the answer; one module each.

fgsm, pgd, apgd   along the gradient of the whole model
square            by questions alone, without a gradient
patch             any colours in one small square, nothing outside of it
autoattack        the standard ensemble of a library, where that is installed
losses, steps     what they climb, and how a step stays inside the threat model

Every attack is a function of a model, images and labels. A model is any function from images
(n, h, w, 3), float32 in 0 to 255, to logits (n, k). The radius is that of the L-infinity ball, in
the same units: the largest change of any channel of any pixel. A patch has an area instead.

Held against ART 1.20.1 on the same network (SmallCNN, width 16, 4,000 digits, 4 epochs; 300 others,
clean 0.963, radius 6.375 of 255), ours and ART's accuracy: FGSM 0.853 and 0.853, PGD of 20 steps
0.833 and 0.833, Auto-PGD of 20 steps on the cross-entropy 0.830 and 0.833, Square with 200 queries
0.933 and 0.930. At radius 12.75: 0.710 and 0.710, 0.430 and 0.430, 0.373 and 0.383, 0.893 and 0.897.
"""
