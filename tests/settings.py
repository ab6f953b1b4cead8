"""The project's settings, in a folder of the test run's own: nothing a test writes lands in var/."""

import os
import tempfile

# Before the real settings are read: they make their secret key in this folder.
os.environ["FEATURESCOPE_VAR"] = tempfile.mkdtemp(prefix="featurescope-tests-")

from interp_site.settings import *  # noqa: F403

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405
