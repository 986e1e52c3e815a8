from rest_framework.permissions import SAFE_METHODS, BasePermission


class IsAuthorOrStaff(BasePermission):
    """All who see a message read it; its author and staff change it."""

    message = "Only its author and staff may change a message."

    def has_object_permission(self, request, view, message):
        return (
            request.method in SAFE_METHODS
            or message.author == request.user
            or request.user.is_staff
        )
