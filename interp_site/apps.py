from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "interp_site"
    verbose_name = "The site"

    def ready(self) -> None:
        from interp_site import checks  # noqa: F401 - registers them
