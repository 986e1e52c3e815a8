"""The API of boards, and the page that uses it."""

from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.staticfiles import finders
from django.db.models import Count
from django.http import FileResponse, HttpResponseNotFound
from django.views import View
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.viewsets import ModelViewSet, ReadOnlyModelViewSet

from kanban.filters import CardFilter, ColumnFilter
from kanban.models import Board, Card, Column, spread
from kanban.permissions import DeletesOwn
from kanban.serializers import BoardSerializer, CardSerializer, ColumnSerializer, CountsSerializer


class BoardViewSet(ReadOnlyModelViewSet):
    queryset = Board.objects.prefetch_related("members")
    serializer_class = BoardSerializer

    def get_queryset(self):
        return super().get_queryset().visible_to(self.request.user)

    @action(detail=False, serializer_class=CountsSerializer)
    def counts(self, request):
        """Return the number of cards of each board and each column of the user."""
        cards = Card.objects.filter(column__board__in=self.get_queryset())

        def by(field):
            return dict(cards.order_by().values_list(field).annotate(Count("pk")))

        return Response({"boards": by("column__board"), "columns": by("column")})


class ColumnViewSet(ModelViewSet):
    queryset = Column.objects.all()
    serializer_class = ColumnSerializer
    filterset_class = ColumnFilter

    def get_queryset(self):
        boards = Board.objects.visible_to(self.request.user)
        return super().get_queryset().filter(board__in=boards)

    def perform_create(self, serializer):
        spread(serializer.save().board.columns.all())

    perform_update = perform_create


class CardViewSet(ModelViewSet):
    queryset = Card.objects.select_related("author", "column")
    serializer_class = CardSerializer
    permission_classes = [IsAuthenticated, DeletesOwn]
    filterset_class = CardFilter

    def get_queryset(self):
        boards = Board.objects.visible_to(self.request.user)
        return super().get_queryset().filter(column__board__in=boards)

    def perform_create(self, serializer):
        spread(serializer.save(author=self.request.user).column.cards.all())

    def perform_update(self, serializer):
        spread(serializer.save().column.cards.all())


class Page(LoginRequiredMixin, View):
    """The page that `make demo-kanban` builds."""

    def get(self, request):
        page = finders.find("kanban/dist/index.html")
        if page is None:
            return HttpResponseNotFound("The page is not built: run `make demo-kanban`.")
        return FileResponse(open(page, "rb"), content_type="text/html")
