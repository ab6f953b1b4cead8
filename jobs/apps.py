from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = "The work"

    def ready(self) -> None:
        from jobs import freezing

        freezing.register()
