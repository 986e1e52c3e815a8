from rest_framework.permissions import BasePermission


class DeletesOwn(BasePermission):
    """Permission to delete a card for its author and staff; all members of its board change it."""

    message = "Only its author and staff may delete a card."

    def has_object_permission(self, request, view, card):
        user = request.user
        return request.method != "DELETE" or card.author_id == user.pk or user.is_staff
