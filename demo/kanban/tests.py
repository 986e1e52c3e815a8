"""Tests of who may see and change what on a board: `python demo/manage.py test kanban`."""

from django.contrib.auth.models import User
from django.core.management import call_command
from rest_channels.test import SocketClient, SocketTestCase
from rest_framework.test import APIClient

from kanban.models import STEP, Board, Card, Column


class KanbanTests(SocketTestCase):
    @classmethod
    def setUpTestData(cls):
        call_command("seed", verbosity=0)
        call_command("seed_kanban", verbosity=0)
        call_command("seed_kanban", verbosity=0)
        cls.ann, cls.bob = User.objects.order_by("username")
        cls.launch, cls.hiring = Board.objects.all()

    def as_(self, user):
        """Return another socket, signed in as `user`."""
        socket = SocketClient()
        socket.force_authenticate(user)
        self.addCleanup(socket.close)
        return socket

    def card_of(self, board):
        return Card.objects.filter(column__board=board).first()

    def test_only_members_see_a_board_with_what_is_on_it(self):
        ann, bob = self.as_(self.ann), self.as_(self.bob)
        assert [row["title"] for row in ann.list("boards").data] == ["Product launch", "Hiring"]
        assert [row["title"] for row in bob.list("boards").data] == ["Product launch"]
        for stream in ("columns", "cards"):
            boards = {row["board"] for row in bob.list(stream).data}
            assert boards == {self.launch.pk}
        assert bob.retrieve("boards", self.hiring.pk).status_code == 404
        assert bob.retrieve("cards", self.card_of(self.hiring).pk).status_code == 404

    def test_a_filter_does_not_reveal_other_boards(self):
        bob = self.as_(self.bob)
        for stream in ("columns", "cards"):
            hidden = bob.list(stream, query={"board": self.hiring.pk})
            assert hidden.status_code == 400
            assert hidden.errors == bob.list(stream, query={"board": 999}).errors

    def test_only_members_change_what_is_on_a_board(self):
        bob = self.as_(self.bob)
        card, column = self.card_of(self.hiring), self.hiring.columns.first()
        there = {"column": column.pk, "title": "Me", "position": 1}
        assert bob.create("cards", there).codes == [{"column": ["does_not_exist"]}]
        new = {"board": self.hiring.pk, "title": "Mine", "position": 1}
        assert bob.create("columns", new).codes == [{"board": ["does_not_exist"]}]
        assert bob.partial_update("cards", card.pk, {"title": "Mine"}).status_code == 404
        assert bob.destroy("cards", card.pk).status_code == 404
        assert bob.destroy("columns", column.pk).status_code == 404
        mine = self.card_of(self.launch)
        away = bob.partial_update("cards", mine.pk, {"column": column.pk})
        assert away.codes == [{"column": ["does_not_exist"]}]

    def test_only_the_author_and_staff_delete_a_card(self):
        ann, bob = self.as_(self.ann), self.as_(self.bob)
        anns, bobs = (
            Card.objects.filter(column__board=self.launch, author=user).first()
            for user in (self.ann, self.bob)
        )
        assert bob.destroy("cards", anns.pk).status_code == 403
        assert bob.partial_update("cards", anns.pk, {"title": "Tea"}).status_code == 200
        assert ann.destroy("cards", bobs.pk).status_code == 204

    def test_a_card_stays_on_its_board(self):
        card, column = self.card_of(self.launch), self.hiring.columns.first()
        reply = self.as_(self.ann).partial_update("cards", card.pk, {"column": column.pk})
        assert reply.codes == [{"column": ["immutable"]}]

    def test_members_move_cards_and_the_other_ones_see_where_they_go(self):
        ann, bob = self.as_(self.ann), self.as_(self.bob)
        here = {"stream": "cards", "query": {"board": self.launch.pk}}
        rows = bob.request("subscribe", **here, ordered=True, snapshot=True).data
        first = rows[0]
        done = self.launch.columns.last()
        ann.partial_update("cards", first["id"], {"column": done.pk, "position": 9999})
        event = bob.event()
        assert event.action == "update"
        assert (event.data["column"], event.data["position"]) == (done.pk, 9999)

    def test_the_author_is_the_user_whatever_the_frame_says(self):
        column = self.launch.columns.first()
        data = {"column": column.pk, "title": "Tea", "position": 1, "author": "ann"}
        assert self.as_(self.bob).create("cards", data).data["author"] == "bob"

    def test_counts_are_of_the_boards_of_the_user(self):
        ann, bob = self.as_(self.ann), self.as_(self.bob)
        assert bob.request("counts", stream="boards").data["boards"] == {str(self.launch.pk): 9}
        assert set(ann.request("counts", stream="boards").data["boards"]) == {
            str(self.launch.pk),
            str(self.hiring.pk),
        }

    def test_a_board_is_gone_when_its_membership_ends(self):
        bob = self.as_(self.bob)
        rows = bob.request("subscribe", stream="boards", snapshot=True)
        assert len(rows.data) == 1
        self.launch.members.remove(self.bob)
        assert bob.event().action == "delete"
        assert bob.list("cards").data == []

    def test_only_members_enter_the_room_of_a_board(self):
        ann, bob = self.as_(self.ann), self.as_(self.bob)
        there = {"stream": "at_board", "room": str(self.hiring.pk)}
        assert ann.request("join", **there).status_code == 200
        assert bob.request("join", **there).status_code == 404

    def test_cards_that_are_too_close_are_renumbered(self):
        column = self.launch.columns.get(title="To do")
        first, second, third = column.cards.all()
        ann = self.as_(self.ann)
        ann.partial_update("cards", third.pk, {"position": first.position + 1e-9})
        assert [card.title for card in column.cards.all()] == [
            first.title,
            third.title,
            second.title,
        ]
        positions = list(column.cards.values_list("position", flat=True))
        assert positions == [STEP, 2 * STEP, 3 * STEP]

    def test_columns_that_are_too_close_are_renumbered(self):
        first, second, *others = self.launch.columns.all()
        ann = self.as_(self.ann)
        ann.partial_update("columns", others[-1].pk, {"position": first.position + 1e-9})
        columns = list(self.launch.columns.all())
        assert columns == [first, others[-1], second, *others[:-1]]
        assert [column.position for column in columns] == [STEP * n for n in range(1, 5)]

    def test_http_has_the_same_rows(self):
        client = APIClient()
        client.force_authenticate(self.bob)
        assert client.get("/api/boards/").json() == self.as_(self.bob).list("boards").data
        assert client.get(f"/api/boards/{self.hiring.pk}/").status_code == 404
        assert Column.objects.count() == 7
