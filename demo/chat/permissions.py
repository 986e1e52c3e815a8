from rest_framework.permissions import SAFE_METHODS, BasePermission


class IsAuthorOrStaff(BasePermission):
    """
    Permission to read for users who see a message, and to change it for its author and staff.
    """

    message = "Only its author and staff may change a message."

    def has_object_permission(self, request, view, message):
        return (
            request.method in SAFE_METHODS
            or message.author == request.user
            or request.user.is_staff
        )
