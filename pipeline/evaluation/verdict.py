"""The verdict: plain sentences about what a model can be trusted for, made by evaluation/rules.

RULES has them in the order of the page. At most MOST are said: where there are more, the least
urgent give way, and stand among the caveats.
"""

from collections.abc import Callable

from pipeline.evaluation import (
    crossval_rules,
    place_rules,
    region_rules,
    robust_rules,
    rules,
)
from pipeline.evaluation.facts import Facts
from pipeline.evaluation.figures import Figures
from pipeline.evaluation.rules import Sentence

MOST = 8
Rule = Callable[[Figures, Facts], Sentence | None]
RULES: tuple[Rule, ...] = (
    rules.accuracy,
    crossval_rules.cross_validated,
    rules.constant_answer,
    rules.leaked,
    rules.dead_classes,
    rules.border,
    region_rules.where_it_looked,
    place_rules.new_place,
    robust_rules.masked_defence,
    robust_rules.attacked,
    rules.missed,
    rules.weak_slices,
    robust_rules.damaged,
    rules.unstable,
    rules.confidence,
    place_rules.promises,
    rules.labels,
    rules.more_photos,
    rules.unmeasured,
)
# Where more than MOST have something to say, these give way, the first one first.
GIVE_WAY = (
    place_rules.promises,
    region_rules.where_it_looked,
    robust_rules.attacked,
    rules.confidence,
    robust_rules.damaged,
    rules.unstable,
    crossval_rules.cross_validated,
    rules.more_photos,
    rules.labels,
    rules.weak_slices,
    rules.missed,
)


def sentences(figures: Figures, facts: Facts) -> tuple[list[Sentence], list[Sentence]]:
    """The verdict, and the sentences that gave way, both in the order of RULES."""
    by_rule = {rule: rule(figures, facts) for rule in RULES}
    applying = [rule for rule in RULES if by_rule[rule]]
    excess = max(0, len(applying) - MOST)
    aside = set([rule for rule in GIVE_WAY if rule in applying][:excess])
    every = {rule: sentence for rule, sentence in by_rule.items() if sentence}
    return (
        [sentence for rule, sentence in every.items() if rule not in aside],
        [sentence for rule, sentence in every.items() if rule in aside],
    )
