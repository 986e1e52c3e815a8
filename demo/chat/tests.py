"""
Tests of what a project's sockets answer: `python demo/manage.py test chat`.

`SocketTestCase` is Django's `TestCase` with a socket; `SocketClient` opens a second one.
"""

from django.contrib.auth.models import User
from django.core.management import call_command
from rest_channels.test import SocketClient, SocketClosed, SocketTestCase
from rest_framework.test import APIClient

from chat.models import Message, Room


class ChatTests(SocketTestCase):
    @classmethod
    def setUpTestData(cls):
        call_command("seed", verbosity=0)
        cls.ann, cls.bob = User.objects.order_by("username")
        cls.lobby = Room.objects.get(name="lobby")
        cls.staff_room = Room.objects.get(name="staff")

    def as_(self, user):
        """Return another socket, signed in as `user`."""
        socket = SocketClient()
        socket.force_authenticate(user)
        self.addCleanup(socket.close)
        return socket

    def test_strangers_are_sent_to_sign_in(self):
        with self.assertRaisesMessage(SocketClosed, "closed with 4401"):
            self.socket.receive()

    def test_only_staff_see_the_staff_room(self):
        def rooms(user):
            return [room["name"] for room in self.as_(user).list("rooms").data]

        assert rooms(self.ann) == ["lobby", "chess", "staff"]
        assert rooms(self.bob) == ["lobby", "chess"]

    def test_to_the_others_the_staff_room_does_not_exist(self):
        bob = self.as_(self.bob)
        said_there = self.staff_room.messages.first()
        to_there = {"room": self.staff_room.pk, "text": "Let me in"}
        assert bob.retrieve("rooms", self.staff_room.pk).status_code == 404
        assert bob.retrieve("messages", said_there.pk).status_code == 404
        assert bob.list("messages", query={"search": said_there.text}).data["results"] == []
        no_room = bob.list("messages", query={"room": 0}).errors
        assert bob.list("messages", query={"room": self.staff_room.pk}).errors == no_room
        assert bob.create("messages", to_there).codes == [{"room": ["does_not_exist"]}]

    def test_the_author_and_staff_change_a_message(self):
        theirs = Message.objects.create(room=self.lobby, author=self.bob, text="Helo")
        assert self.as_(self.bob).partial_update("messages", theirs.pk, {"text": "Hello"}).data
        assert self.as_(self.ann).destroy("messages", theirs.pk).status_code == 204

    def test_nobody_else_does(self):
        anns = Message.objects.filter(author=self.ann, room=self.lobby).first()
        bob = self.as_(self.bob)
        reply = bob.partial_update("messages", anns.pk, {"text": "I like tea"})
        assert (reply.status_code, reply.errors) == (
            403,
            ["Only its author and staff may change a message."],
        )
        assert bob.destroy("messages", anns.pk).status_code == 403

    def test_the_author_is_who_asks(self):
        data = {"room": self.lobby.pk, "text": "Hello", "author": "ann"}
        assert self.as_(self.bob).create("messages", data).data["author"] == "bob"

    def test_a_message_stays_in_its_room(self):
        message = self.lobby.messages.first()
        reply = self.as_(self.ann).partial_update(
            "messages", message.pk, {"room": self.staff_room.pk}
        )
        assert reply.codes == [{"room": ["immutable"]}]

    def test_subscribers_are_told_of_the_messages_of_their_room(self):
        bob = self.as_(self.bob)
        reply = bob.request("subscribe", stream="messages", query={"room": self.lobby.pk})
        assert reply.status_code == 201
        said_there = Message.objects.create(room=self.lobby, author=self.ann, text="Hello")
        event = bob.event()
        assert (event.action, event.data["text"]) == ("create", "Hello")
        pk = said_there.pk
        said_there.delete()
        event = bob.event()
        assert (event.action, event.data) == ("delete", {"pk": pk})

    def test_a_subscription_ends_with_the_right_to_see_the_room(self):
        bob = self.as_(self.bob)
        bob.request("subscribe", stream="messages", query={"room": self.lobby.pk})
        self.lobby.staff_only = True
        self.lobby.save()
        assert bob.event().action == "revoke"
        in_there = {"query": {"room": self.lobby.pk}}
        assert bob.request("subscribe", stream="messages", **in_there).status_code == 400
        assert (
            bob.request("subscribe_instance", stream="rooms", pk=self.lobby.pk).status_code == 404
        )

    def test_people_in_a_room_know_of_each_other(self):
        room = {"stream": "here", "room": str(self.lobby.pk)}
        ann, bob = self.as_(self.ann), self.as_(self.bob)
        assert [user["username"] for user in ann.request("join", **room).data["users"]] == ["ann"]
        bob.request("join", **room)
        came = ann.event()
        assert (came.action, came.data["event"]) == ("presence", "joined")
        assert came.data["user"]["username"] == "bob"
        bob.send("typing", **room, data=True)
        assert bob.request("leave", **room).status_code == 204
        types = ann.event()
        assert (types.action, types.data["user"]["username"]) == ("typing", "bob")

    def test_what_is_said_by_the_way_is_told_who_comes_later(self):
        room = {"stream": "here", "room": str(self.lobby.pk)}
        bob = self.as_(self.bob)
        known = bob.request("join", **room).data["position"]
        assert bob.request("send", **room, data={"text": "Brb"}).status_code == 201
        too_long = bob.request("send", **room, data={"text": "a" * 81})
        assert too_long.codes == [{"text": ["max_length"]}]
        for since in ({}, {"since": known}):
            [said] = self.as_(self.ann).request("join", **room, **since).data["messages"]
            assert (said["text"], said["user"]["username"]) == ("Brb", "bob")

    def test_to_the_others_nobody_is_in_the_staff_room(self):
        ann, bob = self.as_(self.ann), self.as_(self.bob)
        staff_room = {"stream": "here", "room": str(self.staff_room.pk)}
        assert ann.request("join", **staff_room).status_code == 200
        for action in ("join", "presence", "send", "typing"):
            asked = bob.request(action, **staff_room, data={"text": "Let me in"})
            no_room = bob.request(action, stream="here", room="0", data={"text": "Let me in"})
            assert asked.status_code == 404
            assert (asked.errors, asked.codes) == (no_room.errors, no_room.codes)

    def test_http_gives_the_same(self):
        http = APIClient()
        http.force_authenticate(self.bob)
        over_http = http.get("/api/messages/", {"search": "tea"}).json()
        assert over_http["results"] != []
        assert self.as_(self.bob).list("messages", query={"search": "tea"}).data == over_http

    def test_seeding_again_changes_nothing(self):
        self.lobby.messages.first().delete()
        before = list(Message.objects.values_list("pk", "text"))
        call_command("seed", verbosity=0)
        assert list(Message.objects.values_list("pk", "text")) == before
        assert User.objects.count() == 2
        assert self.client.login(username="bob", password="demo")
