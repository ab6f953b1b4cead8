"""The feature database: one file per aggregate, each QuerySet beside its model."""

from features.models.access import ApiKey, LoginToken
from features.models.activity import Activity, Context
from features.models.corpus import Corpus
from features.models.feature import Feature, Label
from features.models.language_model import LanguageModel, Vocabulary
from features.models.run import Run
from features.models.sae import SAE

__all__ = [
    "SAE",
    "Activity",
    "ApiKey",
    "Context",
    "Corpus",
    "Feature",
    "Label",
    "LanguageModel",
    "LoginToken",
    "Run",
    "Vocabulary",
]
