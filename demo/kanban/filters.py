from django_filters import rest_framework as filters

from kanban.models import Board, Card, Column


def visible_boards(request):
    return Board.objects.visible_to(request.user)


class ColumnFilter(filters.FilterSet):
    """`board=1`; the answer does not reveal whether a hidden board exists."""

    board = filters.ModelChoiceFilter(queryset=visible_boards)

    class Meta:
        model = Column
        fields = ["board"]


class CardFilter(filters.FilterSet):
    board = filters.ModelChoiceFilter(field_name="column__board", queryset=visible_boards)

    class Meta:
        model = Card
        fields = ["board"]
