"""Short names for addresses."""

from django.db import models
from django.utils.text import slugify


def free_slug(kind: type[models.Model], text: str) -> str:
    """A slug made from ``text`` that no row of ``kind`` has."""
    base = slugify(text.replace(".", "-").replace("_", "-"))[:100] or "unnamed"
    taken = set(kind._default_manager.filter(slug__startswith=base).values_list("slug", flat=True))
    slug, number = base, 2
    while slug in taken:
        slug, number = f"{base}-{number}", number + 1
    return slug
