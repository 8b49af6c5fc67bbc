"""What conf/ and params.yaml may say: names, types, ranges and meanings. The values stand in conf/
alone.

data, models, defense, search, evidence, service: the sections, by who reads them; section: what they share
"""

from pipeline.config.schema.data import Audit as Audit
from pipeline.config.schema.data import Augment as Augment
from pipeline.config.schema.data import Classes as Classes
from pipeline.config.schema.data import Correlates as Correlates
from pipeline.config.schema.data import Duplicates as Duplicates
from pipeline.config.schema.data import Errors as Errors
from pipeline.config.schema.data import Fractions as Fractions
from pipeline.config.schema.data import Ingest as Ingest
from pipeline.config.schema.data import LabelCheck as LabelCheck
from pipeline.config.schema.data import Outliers as Outliers
from pipeline.config.schema.data import Preprocess as Preprocess
from pipeline.config.schema.data import Quality as Quality
from pipeline.config.schema.defense import Defense as Defense
from pipeline.config.schema.evidence import Attacks as Attacks
from pipeline.config.schema.evidence import Bootstrap as Bootstrap
from pipeline.config.schema.evidence import Conformal as Conformal
from pipeline.config.schema.evidence import Corruptions as Corruptions
from pipeline.config.schema.evidence import CrossValidation as CrossValidation
from pipeline.config.schema.evidence import Evaluate as Evaluate
from pipeline.config.schema.evidence import Export as Export
from pipeline.config.schema.evidence import Promotion as Promotion
from pipeline.config.schema.evidence import Regions as Regions
from pipeline.config.schema.evidence import Robustness as Robustness
from pipeline.config.schema.evidence import Smoothing as Smoothing
from pipeline.config.schema.models import Candidate as Candidate
from pipeline.config.schema.models import CandidateFile as CandidateFile
from pipeline.config.schema.models import Fit as Fit
from pipeline.config.schema.models import FitChanges as FitChanges
from pipeline.config.schema.models import Head as Head
from pipeline.config.schema.models import Parts as Parts
from pipeline.config.schema.models import Range as Range
from pipeline.config.schema.search import ModelSearch as ModelSearch
from pipeline.config.schema.search import Rung as Rung
from pipeline.config.schema.search import Sufficiency as Sufficiency
from pipeline.config.schema.search import Tune as Tune
from pipeline.config.schema.section import Metric as Metric
from pipeline.config.schema.section import Section as Section
from pipeline.config.schema.service import Drift as Drift
from pipeline.config.schema.service import Feedback as Feedback
from pipeline.config.schema.service import ImageFormat as ImageFormat
from pipeline.config.schema.service import Monitor as Monitor
from pipeline.config.schema.service import Serving as Serving

# One schema for each group of conf/.
GROUPS: dict[str, type[Section]] = {
    "ingest": Ingest,
    "label_check": LabelCheck,
    "preprocess": Preprocess,
    "augment": Augment,
    "candidate": CandidateFile,
    "fit": Fit,
    "defense": Defense,
    "model_search": ModelSearch,
    "tune": Tune,
    "evaluate": Evaluate,
    "export": Export,
    "serving": Serving,
    "monitor": Monitor,
    "promotion": Promotion,
}
