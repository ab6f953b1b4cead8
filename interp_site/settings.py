"""All settings, read from the environment. Without any, this is one laptop: SQLite and a Redis of its own, in var/."""

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

import dj_database_url
from csp.constants import NONE, SELF
from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent


def _flag(name: str, default: bool) -> bool:
    return os.environ.get(name, "1" if default else "0").lower() in {"1", "true", "yes", "on"}


def _words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def _secret_key(folder: Path) -> str:
    """One key per installation, made at first use and readable by its owner alone."""
    path = folder / "secret_key"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(get_random_secret_key())
    except FileExistsError:
        pass
    return path.read_text()


def _socket(folder: Path) -> Path:
    """A Unix socket's path is at most 107 bytes long; a folder with a longer one gets its socket under /tmp."""
    path = folder / "redis" / "redis.sock"
    if len(os.fsencode(path)) <= 107:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"featurescope-{os.getuid()}-{name}" / "redis.sock"


# Everything Featurescope writes: the database, Redis, corpora, shard states, collected static files.
VAR_DIR = Path(os.environ.get("FEATURESCOPE_VAR") or BASE_DIR / "var").resolve()

DEBUG = _flag("DEBUG", False)
SECRET_KEY = os.environ.get("SECRET_KEY") or _secret_key(VAR_DIR)
LOCAL_HOSTS = {"127.0.0.1", "localhost", "[::1]", "::1"}
ALLOWED_HOSTS = _words("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = _words("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "ninja",
    "interp_site",
    "features",
    "jobs",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",  # a page of passages is ten times as large without
    "csp.middleware.CSPMiddleware",
    "interp_site.headers.permissions_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "features.routes.OnlyDeclaredRoutes",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "interp_site.urls"
WSGI_APPLICATION = "interp_site.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "features.roles.for_templates",
            ],
        },
    },
]

DATABASES = {
    "default": dj_database_url.parse(
        os.environ.get("DATABASE_URL") or f"sqlite:///{VAR_DIR / 'featurescope.sqlite3'}",
        conn_max_age=60,
        conn_health_checks=True,
    )
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # WAL: pages are read while a worker writes. IMMEDIATE: two writers wait for each other instead of failing.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 30,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=268435456;",
    }
else:
    # A connection plans a statement that it has sent five times once and for all: a fifth of a page's time. A pool that
    # hands one connection to several clients by turns (PgBouncer before 1.21) needs POSTGRES_PREPARE=0.
    prepare = os.environ.get("POSTGRES_PREPARE", "1") != "0"
    options = {"server_side_binding": True, "prepare_threshold": 5} if prepare else {}
    DATABASES["default"]["OPTIONS"] = DATABASES["default"].get("OPTIONS", {}) | options
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = ["features.sign_in.WithRole"]
# Of whoever has been given no other: viewer, researcher or reviewer.
DEFAULT_ROLE = (os.environ.get("DEFAULT_ROLE") or "researcher").strip().lower()
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en-gb"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "interp_site.staticfiles.PlotlyFinder",
]
# Files that workers hand to each other: a folder that all of them see, or a bucket of anything that speaks S3.
S3_BUCKET = os.environ.get("S3_BUCKET", "")
S3_STORAGE = {
    "BACKEND": "storages.backends.s3.S3Storage",
    "OPTIONS": {
        "bucket_name": S3_BUCKET,
        "endpoint_url": os.environ.get("S3_ENDPOINT") or None,
        "location": os.environ.get("S3_PREFIX", "").strip("/"),
        "max_memory_size": 16 << 20,  # larger files are read by way of a temporary one
    },
}
LOCAL_STORAGE = {
    "BACKEND": "django.core.files.storage.FileSystemStorage",
    "OPTIONS": {"location": VAR_DIR / "files"},
}
STORAGES = {
    "default": S3_STORAGE if S3_BUCKET else LOCAL_STORAGE,
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG

# Nothing comes from another host, and no script or style is written into a page. Plotly would write styles of its own;
# static/css/plots.css says how it is kept from it.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "form-action": [SELF],
    }
}
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY, SESSION_COOKIE_SAMESITE = True, "Lax"
# Not asked by `check --deploy`: whether all hosts below this name speak TLS, and whether browsers are shipped with it,
# is for whoever owns the name to say, in the proxy.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
if _flag("HTTPS", False):  # behind a proxy that speaks TLS and says so of each request
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    # For so long a browser that was here asks for this name by https alone. Short, since nobody can take it back.
    SECURE_HSTS_SECONDS = int(os.environ.get("HSTS_SECONDS") or 3600)
elif set(ALLOWED_HOSTS) <= LOCAL_HOSTS:
    # Nothing leaves the machine, so there is nothing to encrypt: no HSTS, no redirect, no cookies for https alone.
    SILENCED_SYSTEM_CHECKS += ["security.W004", "security.W008", "security.W012", "security.W016"]

# How many proxies of ours stand in front: the address of whoever opens a link is what the outermost of them wrote.
PROXIES = int(os.environ.get("PROXIES") or (1 if _flag("HTTPS", False) else 0))

# The launcher starts a Redis of its own on this socket; REDIS_URL names another.
REDIS_SOCKET = _socket(VAR_DIR)
REDIS_IS_LOCAL = not os.environ.get("REDIS_URL")
REDIS_URL = os.environ.get("REDIS_URL") or f"redis+socket://{quote(str(REDIS_SOCKET))}"

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    "jobs.tasks.run_extraction": {"queue": "extract"},
    "jobs.tasks.read_checkpoint": {"queue": "default"},
    "jobs.tasks.read_import": {"queue": "default"},
    "jobs.tasks.draw_map": {"queue": "default"},
    "jobs.tasks.try_text": {"queue": "interactive"},
}
CELERY_TASK_IGNORE_RESULT = True  # the Job row holds the outcome
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A page that tells a worker of something waits no six seconds for a Redis that is away: sweepers tell it later.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 12 * 3600,
    "socket_connect_timeout": 10,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}

# A worker that has not been heard of for so long has lost what it was at, and another one may take it.
LEASE_SECONDS = float(os.environ.get("LEASE_SECONDS") or 30)
# So often every worker looks for work that nobody has been told of.
SWEEP_SECONDS = LEASE_SECONDS / 2

# SAEs, each with its model, that a worker of the queue `interactive` keeps in memory for the next text.
WARM_SAES = int(os.environ.get("WARM_SAES") or 2)

# Models and hubs: a laptop on a train and a node behind a firewall behave the same, for the network is off until it is
# allowed. huggingface_hub takes what it needs from the environment, once, when it is imported: HF_HUB_OFFLINE,
# HF_ENDPOINT (a mirror), HF_HOME (its cache), and HF_TOKEN, which is no setting here lest it be shown with them.
ALLOW_HUB = _flag("ALLOW_HUB", False)
os.environ["HF_HUB_OFFLINE"] = "0" if ALLOW_HUB else "1"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
HUB_ENDPOINT = os.environ.get("HF_ENDPOINT", "")
if not HUB_ENDPOINT:  # set to nothing, it would be taken for an address
    os.environ.pop("HF_ENDPOINT", None)
# Models whose own Python code may be run, written exactly as their sources are.
TRUST_REMOTE_CODE = _words("TRUST_REMOTE_CODE")
# Digests of large files, worked out once.
os.environ.setdefault("FEATURESCOPE_CACHE", str(VAR_DIR / "cache"))

# The key that signs frozen evidence: a private Ed25519 key as PEM (PKCS8), or the path of one. Without it, one is made
# in VAR_DIR when it is first needed; web servers that do not share that folder need the same key from here.
EVIDENCE_KEY = os.environ.get("EVIDENCE_KEY", "")

DATA_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
# All files of an import together, as they are sent; what lies at a path on the server may be of any size.
MAX_IMPORT_BYTES = int(os.environ.get("MAX_IMPORT_BYTES") or 8 << 30)
# All files of an SAE together: of an upload, and of what is fetched from a hub.
MAX_SAE_BYTES = int(os.environ.get("MAX_SAE_BYTES") or 32 << 30)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "filters": {"without_secrets": {"()": "interp_site.logs.WithoutSecrets"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["without_secrets"]}},
    "root": {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "WARNING")},
}
