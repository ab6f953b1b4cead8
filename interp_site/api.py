"""The REST API: one NinjaAPI that gathers the rooms' routers."""

from ninja import NinjaAPI

from features.api.auth import nobody
from features.api.collections import router as collections
from features.api.errors import explain_errors
from features.api.people import router as people
from features.api.saes import router as saes
from features.api.search import router as search
from features.api.sharing import router as sharing
from features.api.vectors import router as vectors
from features.routes import ANYONE, declare
from jobs.api import router as trials

api = NinjaAPI(
    title="Featurescope",
    version="1",
    description="Read what the SAEs of this site have found. Make a key under Keys and send it as `X-API-Key`.",
    urls_namespace="api",
    auth=nobody,
)
explain_errors(api)
api.add_router("", saes)
api.add_router("", search)
api.add_router("", people)
api.add_router("", collections)
api.add_router("", vectors)
api.add_router("", sharing)
api.add_router("", trials)

urls = api.urls
for _view in filter(None, (pattern.callback for pattern in urls[0])):
    # Every operation says itself who may use it (features.api.auth), and answers 401 where a page would send a program
    # to the login page. The description of the API holds no data and is the same on every installation.
    declare(_view, ANYONE)
