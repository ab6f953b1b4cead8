"""What goes wrong is said as ``{"detail": sentence}``, with the status that fits."""

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from features.evidence import NotFound
from features.filters import ListingError
from features.knowledge.rules import NotAllowed, Refused
from features.search.query import QueryError
from features.sharing.freezing import Damaged
from features.sharing.shapes import Unreadable

NOT_SIGNED_IN = "Sign in, or send an API key in the header X-API-Key."


def explain_errors(api: NinjaAPI) -> None:
    """Teach ``api`` the answers to the errors that its views raise."""

    def say(request: HttpRequest, status: int, sentence: str) -> HttpResponse:
        return api.create_response(request, {"detail": sentence}, status=status)

    @api.exception_handler(AuthenticationError)
    def not_signed_in(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
        response = say(request, 401, NOT_SIGNED_IN)
        response["WWW-Authenticate"] = "Bearer"
        return response

    @api.exception_handler(NotFound)
    def not_found(request: HttpRequest, error: NotFound) -> HttpResponse:
        return say(request, 404, str(error))

    @api.exception_handler(NotAllowed)
    def not_allowed(request: HttpRequest, error: NotAllowed) -> HttpResponse:
        return say(request, 403, str(error))

    @api.exception_handler(Damaged)
    def damaged(request: HttpRequest, error: Damaged) -> HttpResponse:
        return say(request, 500, str(error))

    @api.exception_handler(ListingError)
    @api.exception_handler(QueryError)
    @api.exception_handler(Refused)
    @api.exception_handler(Unreadable)
    def makes_no_sense(request: HttpRequest, error: ListingError | QueryError | Refused | Unreadable) -> HttpResponse:
        return say(request, 422, str(error))

    @api.exception_handler(ValidationError)
    def not_of_its_type(request: HttpRequest, error: ValidationError) -> HttpResponse:
        first = error.errors[0]
        return say(request, 422, f"{first['loc'][-1]}: {first['msg']}.")

    @api.exception_handler(HttpError)
    def not_json(request: HttpRequest, error: HttpError) -> HttpResponse:
        """Ninja's own word for a body that cannot be read is 400, which no operation of ours names."""
        unread = error.status_code == 400
        return say(request, 422 if unread else error.status_code, "The body is not JSON." if unread else str(error))
