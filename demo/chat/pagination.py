from rest_framework.pagination import CursorPagination


class NewestFirst(CursorPagination):
    """Pages of twenty, by a cursor that stays correct while other users post."""

    page_size = 20
    ordering = "-id"
