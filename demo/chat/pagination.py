from rest_framework.pagination import CursorPagination


class NewestFirst(CursorPagination):
    """Twenty at a time; the cursor stays right while others post."""

    page_size = 20
    ordering = "-id"
