"""The serializers of boards; what a user may not see does not exist for them."""

from rest_framework import serializers

from kanban.models import Board, Card, Column


class VisibleBoardField(serializers.PrimaryKeyRelatedField):
    def get_queryset(self):
        return Board.objects.visible_to(self.context["request"].user)


class VisibleColumnField(serializers.PrimaryKeyRelatedField):
    def get_queryset(self):
        boards = Board.objects.visible_to(self.context["request"].user)
        return Column.objects.filter(board__in=boards)


class BoardSerializer(serializers.ModelSerializer):
    members = serializers.SlugRelatedField("username", many=True, read_only=True)

    class Meta:
        model = Board
        fields = ["id", "title", "members"]


class CountsSerializer(serializers.Serializer):
    """Numbers of cards by the ids of boards and columns."""

    boards = serializers.DictField(child=serializers.IntegerField())
    columns = serializers.DictField(child=serializers.IntegerField())


class ColumnSerializer(serializers.ModelSerializer):
    board = VisibleBoardField()

    class Meta:
        model = Column
        fields = ["id", "board", "title", "position"]

    def validate_board(self, board):
        if self.instance is not None and board != self.instance.board:
            raise serializers.ValidationError("A column stays on its board.", code="immutable")
        return board


class CardSerializer(serializers.ModelSerializer):
    board = serializers.PrimaryKeyRelatedField(source="column.board", read_only=True)
    column = VisibleColumnField()
    author = serializers.SlugRelatedField("username", read_only=True)

    class Meta:
        model = Card
        fields = ["id", "board", "column", "author", "title", "position"]

    def validate_column(self, column):
        if self.instance is not None and column.board_id != self.instance.column.board_id:
            raise serializers.ValidationError("A card stays on its board.", code="immutable")
        return column
