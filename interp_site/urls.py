"""Where everything is. Each room lists its own pages."""

from django.urls import include, path

from interp_site import api

urlpatterns = [
    path("api/v1/", api.urls),
    path("", include("jobs.urls")),
    path("", include("features.urls")),
]
