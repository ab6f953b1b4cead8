"""Fill the empty database of Django's settings: ``python -m tests.scale --features 1000000``."""

import os
import sys
import time
from argparse import ArgumentParser


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--features", type=int, default=1_000_000, help="of all SAEs together (default: 1,000,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", type=int, help="write only the SAE of this number, 0 to 4, and nothing that people left"
    )
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "interp_site.settings")
    import django

    django.setup()
    from django.conf import settings

    from features.models import LanguageModel
    from tests.scale.fill import Plan, fill, settle
    from tests.scale.vocabulary import vocabulary

    if LanguageModel.objects.exists():
        sys.exit("This database holds models already: the generator needs an empty one.")
    began = time.perf_counter()

    def say(what: str) -> None:
        sys.stderr.write(f"{time.perf_counter() - began:7.1f} s  {what}\n")

    words = vocabulary(settings.BASE_DIR / "var" / "featurescope.sqlite3")
    fill(Plan(options.features, options.seed, options.only), words, say)
    settle()
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
