"""The configuration: params.yaml over conf/, checked before anything runs.

compose    what a stage may see; schema: names, types and ranges of every section
composed   what Hydra makes of the files of conf/
files      which file of conf/ each section uses, and what stands in it
targets    the objects that `_target_` nodes build
checks     everything that is checked before a stage runs; messages: how that is said
explain    what a key means and may be
places     where a project keeps what is no result
"""

from pipeline.config.checks import check as check
from pipeline.config.checks import check_images as check_images
from pipeline.config.checks import check_targets as check_targets
from pipeline.config.checks import inputs as inputs
from pipeline.config.compose import PLAIN as PLAIN
from pipeline.config.compose import Config as Config
from pipeline.config.compose import in_use as in_use
from pipeline.config.compose import load as load
from pipeline.config.compose import project as project
from pipeline.config.compose import wiring as wiring
from pipeline.config.files import PARAMS as PARAMS
from pipeline.config.files import groups as groups
from pipeline.config.files import read_yaml as read_yaml
from pipeline.config.places import STATE as STATE
from pipeline.config.places import cache_folder as cache_folder
from pipeline.config.places import home as home
from pipeline.config.places import made as made
from pipeline.config.places import private as private
from pipeline.config.targets import build as build
from pipeline.config.targets import target as target
