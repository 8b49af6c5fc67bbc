"""Which images belong together, so that no two splits and no two folds share them."""

import pandas as pd

from pipeline.labels import duplicates


def grouped(
    rows: pd.DataFrame, pairs: duplicates.Pairs, feedback: pd.Series
) -> tuple[pd.DataFrame, pd.Series]:
    """Rows with dup_group, and what is tied to what when feedback images count, too.

    They must not move any other image to another split, so dup_group is made without them, and they
    join one.
    """
    came = feedback.to_numpy(bool)
    without = ~(came[pairs.first] | came[pairs.second])
    own = duplicates.Pairs(pairs.first[without], pairs.second[without], pairs.cosine[without])
    ids, given = rows["id"].tolist(), rows["group"].tolist()
    together, alone = (
        pd.Series(duplicates.groups(len(rows), some, given, ids), rows.index)
        for some in (pairs, own)
    )
    joined = together.map(alone[~feedback].groupby(together[~feedback]).min()).fillna(together)
    return rows.assign(dup_group=alone.where(~feedback, joined).astype(str)), together
