"""The pages of the jobs room."""

from django.urls import path

from jobs import views
from jobs import views_checkpoints as added

urlpatterns = [
    path("jobs/", views.job_list, name="jobs"),
    path("jobs/new/", views.job_new, name="job_new"),
    path("jobs/<int:pk>/", views.job_page, name="job"),
    path("jobs/<int:pk>/progress/", views.job_progress, name="job_progress"),
    path("jobs/<int:pk>/cancel/", views.job_cancel, name="job_cancel"),
    path("jobs/<int:pk>/retry/", views.job_retry, name="job_retry"),
    path("saes/add/", added.checkpoint_list, name="checkpoints"),
    path("saes/add/form/", added.checkpoint_form, name="checkpoint_form"),
    path("saes/add/upload/", added.checkpoint_upload, name="checkpoint_upload"),
    path("saes/add/<int:pk>/", added.checkpoint_page, name="checkpoint"),
    path("saes/add/<int:pk>/state/", added.checkpoint_state, name="checkpoint_state"),
    path("saes/add/<int:pk>/files/", added.checkpoint_files, name="checkpoint_files"),
    path("saes/add/<int:pk>/files/<int:number>/", added.checkpoint_file, name="checkpoint_file"),
    path("saes/add/<int:pk>/read/", added.checkpoint_read, name="checkpoint_read"),
    path("saes/add/<int:pk>/delete/", added.checkpoint_delete, name="checkpoint_delete"),
]
