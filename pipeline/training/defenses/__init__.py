"""Training that makes a network withstand attacks: conf/defense.

objectives   the loss of a step under each defence
collapse     fast adversarial training is watched, and taken back where it has collapsed
distillation soft targets from a first network
reach        which candidates can be defended at all, and how long that takes
"""
