"""The pages of the jobs room, each with the role that it takes (features.routes)."""

from features.models.member import Role
from features.routes import researcher, viewer
from jobs import views
from jobs import views_checkpoints as added
from jobs import views_imports as transfer
from jobs import views_map as maps
from jobs import views_trials as trials
from jobs import views_workers as workers

urlpatterns = [
    viewer("jobs/", views.job_list, name="jobs"),
    researcher("jobs/new/", views.job_new, name="job_new"),
    viewer("jobs/<int:pk>/", views.job_page, name="job"),
    viewer("jobs/<int:pk>/progress/", views.job_progress, name="job_progress"),
    researcher("jobs/<int:pk>/cancel/", views.job_cancel, name="job_cancel"),
    researcher("jobs/<int:pk>/retry/", views.job_retry, name="job_retry"),
    viewer("workers/", workers.worker_list, name="workers"),
    researcher("saes/<slug:slug>/features/<int:index>/try/", trials.try_feature, name="try"),
    viewer("trials/<int:pk>/", trials.trial_page, name="trial"),
    researcher("trials/<int:pk>/again/", trials.trial_again, name="trial_again"),
    researcher("trials/<int:pk>/take-back/", trials.trial_take_back, name="trial_take_back"),
    viewer("saes/<slug:slug>/map/", maps.map_page, name="map"),
    viewer("saes/<slug:slug>/map/state/", maps.map_state, name="map_state"),
    researcher("saes/<slug:slug>/map/make/", maps.map_make, name="map_make"),
    viewer("saes/add/", added.checkpoint_list, name="checkpoints", writes=Role.RESEARCHER),
    viewer("saes/add/form/", added.checkpoint_form, name="checkpoint_form", writes=Role.RESEARCHER),
    researcher("saes/add/upload/", added.checkpoint_upload, name="checkpoint_upload"),
    viewer("saes/add/<int:pk>/", added.checkpoint_page, name="checkpoint"),
    viewer("saes/add/<int:pk>/state/", added.checkpoint_state, name="checkpoint_state"),
    viewer("saes/add/<int:pk>/files/", added.checkpoint_files, name="checkpoint_files"),
    researcher("saes/add/<int:pk>/files/<int:number>/", added.checkpoint_file, name="checkpoint_file"),
    researcher("saes/add/<int:pk>/read/", added.checkpoint_read, name="checkpoint_read"),
    researcher("saes/add/<int:pk>/delete/", added.checkpoint_delete, name="checkpoint_delete"),
    viewer("import/", transfer.import_list, name="imports", writes=Role.RESEARCHER),
    viewer("import/<int:pk>/", transfer.import_page, name="import"),
    viewer("import/<int:pk>/state/", transfer.import_state, name="import_state"),
    researcher("import/<int:pk>/read/", transfer.import_read, name="import_read"),
    researcher("import/<int:pk>/delete/", transfer.import_delete, name="import_delete"),
    viewer("runs/<int:pk>/export/", transfer.export, name="export"),
]
