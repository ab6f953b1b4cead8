"""The REST API: one NinjaAPI that gathers the rooms' routers."""

from django.contrib.auth.decorators import login_not_required
from ninja import NinjaAPI

from features.api.auth import READERS
from features.api.collections import router as collections
from features.api.errors import explain_errors
from features.api.people import router as people
from features.api.saes import router as saes
from features.api.search import router as search
from features.api.vectors import router as vectors
from jobs.api import router as trials

api = NinjaAPI(
    title="Featurescope",
    version="1",
    description="Read what the SAEs of this site have found. Make a key under Keys and send it as `X-API-Key`.",
    urls_namespace="api",
    auth=READERS,
)
explain_errors(api)
api.add_router("", saes)
api.add_router("", search)
api.add_router("", people)
api.add_router("", collections)
api.add_router("", vectors)
api.add_router("", trials)

urls = api.urls
for _view in filter(None, (pattern.callback for pattern in urls[0])):
    # Every operation asks READERS itself and answers 401, where the site's middleware would send a program to the
    # login page. The description of the API holds no data and is the same on every installation: anyone may read it.
    login_not_required(_view)
