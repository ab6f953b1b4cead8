"""The feature database: one file per aggregate, each QuerySet beside its model."""

from features.models import lookups  # noqa: F401 - registers them
from features.models.access import ApiKey, LoginToken
from features.models.activity import Activity, Context
from features.models.collection import Collection, CollectionItem
from features.models.columns import Columns
from features.models.corpus import Corpus
from features.models.feature import Feature
from features.models.label import Label, LabelChange, Vote
from features.models.language_model import LanguageModel, Vocabulary
from features.models.layout import Layout
from features.models.member import Member, Role
from features.models.notes import Comment, Star, Tag, Tagging
from features.models.phrase import ContextWords, Phrase
from features.models.run import Run
from features.models.sae import SAE
from features.models.sharing import Freezing, Kind, LinkView, Received, ShareLink, Snapshot, WrongPassword

__all__ = [
    "SAE",
    "Activity",
    "ApiKey",
    "Collection",
    "CollectionItem",
    "Columns",
    "Comment",
    "Context",
    "ContextWords",
    "Corpus",
    "Feature",
    "Freezing",
    "Kind",
    "Label",
    "LabelChange",
    "LanguageModel",
    "Layout",
    "LinkView",
    "LoginToken",
    "Member",
    "Phrase",
    "Received",
    "Role",
    "Run",
    "ShareLink",
    "Snapshot",
    "Star",
    "Tag",
    "Tagging",
    "Vocabulary",
    "Vote",
    "WrongPassword",
]
