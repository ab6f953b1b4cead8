"""What gunicorn serves."""

import gc
import os

from django.core.wsgi import get_wsgi_application

from jobs.engine.code import code_version

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "interp_site.settings")
application = get_wsgi_application()
code_version()  # looked up now: the checkout may change while this process runs

# A page makes many small objects and hardly a cycle. Spare the collector what has been imported, and call it more
# rarely: a collection in the middle of a page costs 1 ms then, not 3, and not 20 where a search had found much.
gc.freeze()
gc.set_threshold(10_000, 20, 20)
