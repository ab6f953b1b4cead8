"""How Django finds out who is signed in."""

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User


class WithRole(ModelBackend):
    """Reads the role along with the user, so that no request asks for it again."""

    def get_user(self, user_id: int) -> User | None:
        user = User.objects.select_related("member").filter(pk=user_id).first()
        return user if user is not None and self.user_can_authenticate(user) else None
