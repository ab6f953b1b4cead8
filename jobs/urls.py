"""The pages of the jobs room."""

from django.urls import path

from jobs import views
from jobs import views_checkpoints as added
from jobs import views_imports as transfer
from jobs import views_map as maps
from jobs import views_trials as trials
from jobs import views_workers as workers

urlpatterns = [
    path("jobs/", views.job_list, name="jobs"),
    path("jobs/new/", views.job_new, name="job_new"),
    path("jobs/<int:pk>/", views.job_page, name="job"),
    path("jobs/<int:pk>/progress/", views.job_progress, name="job_progress"),
    path("jobs/<int:pk>/cancel/", views.job_cancel, name="job_cancel"),
    path("jobs/<int:pk>/retry/", views.job_retry, name="job_retry"),
    path("workers/", workers.worker_list, name="workers"),
    path("saes/<slug:slug>/features/<int:index>/try/", trials.try_feature, name="try"),
    path("trials/<int:pk>/", trials.trial_page, name="trial"),
    path("trials/<int:pk>/again/", trials.trial_again, name="trial_again"),
    path("trials/<int:pk>/take-back/", trials.trial_take_back, name="trial_take_back"),
    path("saes/<slug:slug>/map/", maps.map_page, name="map"),
    path("saes/<slug:slug>/map/state/", maps.map_state, name="map_state"),
    path("saes/<slug:slug>/map/make/", maps.map_make, name="map_make"),
    path("saes/add/", added.checkpoint_list, name="checkpoints"),
    path("saes/add/form/", added.checkpoint_form, name="checkpoint_form"),
    path("saes/add/upload/", added.checkpoint_upload, name="checkpoint_upload"),
    path("saes/add/<int:pk>/", added.checkpoint_page, name="checkpoint"),
    path("saes/add/<int:pk>/state/", added.checkpoint_state, name="checkpoint_state"),
    path("saes/add/<int:pk>/files/", added.checkpoint_files, name="checkpoint_files"),
    path("saes/add/<int:pk>/files/<int:number>/", added.checkpoint_file, name="checkpoint_file"),
    path("saes/add/<int:pk>/read/", added.checkpoint_read, name="checkpoint_read"),
    path("saes/add/<int:pk>/delete/", added.checkpoint_delete, name="checkpoint_delete"),
    path("import/", transfer.import_list, name="imports"),
    path("import/<int:pk>/", transfer.import_page, name="import"),
    path("import/<int:pk>/state/", transfer.import_state, name="import_state"),
    path("import/<int:pk>/read/", transfer.import_read, name="import_read"),
    path("import/<int:pk>/delete/", transfer.import_delete, name="import_delete"),
    path("runs/<int:pk>/export/", transfer.export, name="export"),
]
