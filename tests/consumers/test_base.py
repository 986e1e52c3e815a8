"""A class is a group of handlers: filters, channels, keywords, decorators, exceptions."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import threading

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from rest_framework.exceptions import ValidationError

from rest_channels.consumers import (
    Channel,
    ConsumerError,
    Consumers,
    CRUDConsumers,
    RoomConsumers,
    WebsocketConsumers,
    consumer,
)
from rest_channels.routers import ChannelRouter
from tests.support.internal_channels import told


class Pages(Consumers):
    channel_name = "pages"
    prefix = "new"

    @consumer(page=r"(?P<page>\d+)")
    def numbered(self, message, page):
        self.reply({"page": self.prefix + page})


# as_routes


def test_a_keyword_of_as_routes_is_an_attribute_of_the_instance():
    assert told(Pages.as_routes(prefix="old"), content={"page": "7"}) == [{"page": "old7"}]


def test_one_class_is_routed_several_times_each_with_keywords_of_its_own():
    routes = [Pages.as_routes(channel_name="private", prefix="private"), Pages.as_routes()]
    assert told(*routes, channel="private", content={"page": "1"}) == [{"page": "private1"}]
    assert told(*routes, channel="pages", content={"page": "1"}) == [{"page": "new1"}]
    assert (Pages.channel_name, Pages.prefix) == ("pages", "new")


def test_an_unknown_keyword_is_refused_with_the_list_of_those_known():
    with pytest.raises(TypeError) as refused:
        Pages.as_routes(prefix="old", colour="red")
    assert str(refused.value) == (
        "Pages.as_routes() got unknown keywords: colour. It takes channel_name, decorators, prefix."
    )


@pytest.mark.parametrize("name", ["message", "kwargs", "reply_channel", "connection", "request"])
def test_what_each_message_sets_is_no_keyword(name):
    with pytest.raises(TypeError, match="unknown keywords"):
        Pages.as_routes(**{name: "mine"})


@pytest.mark.parametrize("name", ["reply", "numbered", "as_routes", "__class__", "_table"])
def test_methods_and_private_names_are_no_keywords(name):
    with pytest.raises(TypeError, match="unknown keywords"):
        Pages.as_routes(**{name: "mine"})


@pytest.mark.parametrize("name", ["stream_class", "queue_class", "bases"])
def test_what_a_class_is_made_of_is_no_keyword(name):
    with pytest.raises(TypeError, match="unknown keywords") as refused:
        CRUDConsumers.as_routes(**{name: ()})
    assert name not in str(refused.value).partition("It takes")[2]


def test_routes_of_one_class_share_nothing_not_even_what_can_be_changed():
    class Noting(Consumers):
        channel_name = "noting"
        notes: list = []
        seen = 0

        @consumer(say="(?P<word>.*)", decorators=())
        def noted(self, message, word):
            self.notes.append(word)
            type(self).seen += 1
            self.reply([self.notes, self.seen])

    keywords = {"notes": []}
    one = Noting.as_routes(**keywords)
    # Later changes of the dictionary do not concern the routes.
    keywords.update(notes=["mine"], channel_name="other")
    other = Noting.as_routes(notes=[])
    assert told(one, content={"say": "a"}) == [[["a"], 1]]
    assert told(one, content={"say": "b"}) == [[["a", "b"], 2]]
    assert told(other, content={"say": "c"}) == [[["c"], 1]]
    assert (Noting.notes, Noting.seen) == ([], 0)


def test_as_routes_is_one_instance_a_message():
    class Counting(Consumers):
        channel_name = "counting"
        count = 0

        @consumer
        def counted(self, message):
            self.count += 1
            self.reply(self.count)

    routes = Counting.as_routes()
    assert told(routes, content={}) + told(routes, content={}) == [1, 1]


def test_an_instance_has_its_message_its_kwargs_and_whom_to_reply_to():
    class Mirror(Consumers):
        channel_name = "mirror"

        @consumer(name=r"(?P<name>\w+)")
        def mirrored(self, message, **kwargs):
            assert message is self.message
            assert self.reply_channel is message.reply_channel
            assert self.connection is None
            self.reply([message.content, kwargs, self.kwargs, message.channel.name])
            self.reply(self.reply_channel.name)

    content = {"name": "ann", "more": [1]}
    kwargs = {"room": "5", "name": "ann"}
    assert told(Mirror.as_routes(), content=content, kwargs={"room": "5"}) == [
        [content, kwargs, kwargs, "mirror"],
        "asker#1",
    ]


# Filters


def answers(filters, content, **initkwargs):
    """Whether a handler of these filters takes `content`, and what they captured."""

    class Filtered(Consumers):
        channel_name = "filtered"
        gate = "g"

        @consumer(**filters)
        def taken(self, message, **kwargs):
            self.reply(kwargs)

    [reply] = told(Filtered.as_routes(**initkwargs), content=content)
    return reply if "response_status" not in reply else None


def test_a_regular_expression_matches_in_full():
    assert answers({"page": "info"}, {"page": "info"}) == {}
    assert answers({"page": "info"}, {"page": "information"}) is None
    assert answers({"page": "info"}, {"page": "more info"}) is None
    assert answers({"page": "info"}, {"page": "info\n"}) is None
    assert answers({"page": "a|b"}, {"page": "bc"}) is None


def test_named_groups_are_captured_and_unnamed_ones_not():
    assert answers({"to": r"(?P<name>\w+)@(\w+)"}, {"to": "ann@home"}) == {"name": "ann"}
    assert answers({"to": r"(?P<name>a)?b"}, {"to": "b"}) == {}


def test_a_number_is_matched_as_it_is_written():
    assert answers({"page": r"(?P<page>\d+)"}, {"page": 12}) == {"page": "12"}
    # As long as JSON may have it: Python writes no longer ones.
    assert answers({"page": r"\d+"}, {"page": 10**4299}) == {}


@pytest.mark.parametrize("value", [None, True, 1.5, ["1"], {"1": 1}])
def test_what_is_neither_text_nor_integer_matches_no_regular_expression(value):
    assert answers({"page": ".*"}, {"page": value}) is None


def test_a_plain_value_has_to_be_equal_and_of_its_type():
    assert answers({"page": 1}, {"page": 1}) == {}
    assert answers({"page": 1}, {"page": True}) is None
    assert answers({"page": 1}, {"page": "1"}) is None
    assert answers({"page": None}, {"page": None}) == {}
    assert answers({"page": None}, {}) is None
    assert answers({"page": [1]}, {"page": [1]}) == {}
    assert answers({"page": 1.0}, {"page": 1}) is None
    assert answers({"page": False}, {"page": 0}) is None


def test_what_is_nested_has_to_be_equal_all_the_way_down():
    wanted = {"by": {"id": 1, "tags": ["a", None]}}
    assert answers(wanted, {"by": {"tags": ["a", None], "id": 1}}) == {}
    assert answers({"by": (1, 2)}, {"by": [1, 2]}) == {}
    for other in (
        {"id": True, "tags": ["a", None]}, {"id": 1, "tags": ["a", None], "more": 1},
        {"id": 1, "tags": ["a"]}, {"id": 1}, [1], "{}", None,
    ):  # fmt: skip
        assert answers(wanted, {"by": other}) is None, other
    assert answers({"by": [1]}, {"by": [True]}) is None


def test_a_key_is_a_key_and_no_path_into_what_is_nested():
    assert answers({"by.id": "1"}, {"by.id": "1"}) == {}
    assert answers({"by.id": "1"}, {"by": {"id": "1"}}) is None
    assert answers({"by__id": "1"}, {"by": {"id": "1"}}) is None


def test_a_text_that_looks_like_a_regular_expression_is_escaped_to_be_itself():
    assert answers({"sum": "1+1"}, {"sum": "1+1"}) is None
    assert answers({"sum": re.escape("1+1")}, {"sum": "1+1"}) == {}
    assert answers({"sum": re.compile("(?P<a>a)B", re.IGNORECASE)}, {"sum": "Ab"}) == {"a": "A"}


@pytest.mark.parametrize("wrong", ["(", "(?P<a>", re.compile(b"x"), b"x"])
def test_a_filter_that_can_match_nothing_is_refused_by_its_name(wrong):
    with pytest.raises(ImproperlyConfigured, match="The filter page="):
        answers({"page": wrong}, {})


def test_a_group_called_as_the_message_is_no_second_message():
    class Shadowed(Consumers):
        channel_name = "shadowed"

        @consumer(kind="any", message="(?P<message>.*)")
        def any_keyword(self, message, **kwargs):
            self.reply([message.content["message"], kwargs, self.kwargs])

        @consumer(kind="this", self="(?P<self>.*)")
        def named(self, message):
            self.reply(self.kwargs)

    content = {"kind": "any", "message": "Hi"}
    assert told(Shadowed.as_routes(), content=content) == [["Hi", {}, {"message": "Hi"}]]
    assert told(Shadowed.as_routes(), content={"kind": "this", "self": "x"}) == [{"self": "x"}]


def test_all_filters_have_to_match():
    filters = {"command": "send", "user": r"(?P<name>\w+)"}
    assert answers(filters, {"command": "send", "user": "ann", "more": 1}) == {"name": "ann"}
    assert answers(filters, {"command": "send"}) is None
    assert answers(filters, {"command": "leave", "user": "ann"}) is None


@pytest.mark.parametrize("content", [[], "page", 5, None, [{"page": "info"}]])
def test_what_is_no_object_matches_no_filter(content):
    assert answers({"page": ".*"}, content) is None


def test_a_function_takes_the_class_and_the_keywords_of_as_routes():
    filters = {"gate": lambda cls, **kwargs: kwargs.get("gate", cls.gate)}
    assert answers(filters, {"gate": "g"}) == {}
    assert answers(filters, {"gate": "h"}, gate="h") == {}
    assert answers(filters, {"gate": "g"}, gate="h") is None


class Door(Consumers):
    channel_name = "gate"
    gate = r"g-(?P<gate>\w+)"

    @classmethod
    def get_gate(cls, **kwargs):
        return kwargs.get("gate", cls.gate)

    @staticmethod
    def get_key(cls, **kwargs):
        return f"{cls.__name__} {kwargs}"

    @consumer(gate=get_gate)
    def opened(self, message, gate="no"):
        self.reply(gate)

    @consumer(key=get_key)
    def unlocked(self, message):
        self.reply("unlocked")


def test_a_classmethod_is_a_filter():
    assert told(Door.as_routes(), content={"gate": "g-1"}) == ["1"]
    assert told(Door.as_routes(gate="x"), content={"gate": "x"}) == ["no"]


def test_a_staticmethod_is_given_the_class():
    assert told(Door.as_routes(), content={"key": "Door {}"}) == ["unlocked"]


def test_a_subclass_may_override_the_method_that_is_a_filter():
    class Other(Door):
        @classmethod
        def get_gate(cls, **kwargs):
            return "other"

    assert told(Other.as_routes(), content={"gate": "other"}) == ["no"]


def test_filters_are_called_once_for_each_routing_and_not_for_each_message():
    calls = []

    class Asked(Consumers):
        channel_name = "asked"

        @consumer(page=lambda cls, **kwargs: calls.append(kwargs) or "info")
        def info(self, message):
            self.reply("info")

    routes = Asked.as_routes(channel_name="other")
    for _ in range(3):
        told(routes, content={"page": "info"})
    assert calls == [{"channel_name": "other"}]


# Which handler


class First(Consumers):
    channel_name = "order"

    @consumer(a="1")
    def inherited(self, message):
        self.reply("inherited")

    @consumer(b="1")
    def overridden(self, message):
        self.reply("overridden")

    @consumer(c="1")
    def hidden(self, message):
        self.reply("hidden")


class Second(First):
    @consumer(a="1", b="1")
    def own(self, message):
        self.reply("own")

    @consumer
    def anything(self, message):
        self.reply("anything")

    @consumer(b="2")
    def overridden(self, message):
        self.reply("overriding")

    def hidden(self, message):
        raise AssertionError("no handler any more")


def test_the_first_that_matches_is_taken_in_the_order_of_definition():
    assert told(Second.as_routes(), content={"a": "1", "b": "1"}) == ["own"]


def test_what_a_class_defines_comes_before_what_it_inherits():
    # `anything` has no filters, so nothing after it is ever asked.
    assert told(Second.as_routes(), content={"a": "1"}) == ["anything"]
    assert told(First.as_routes(), content={"a": "1"}) == ["inherited"]


def test_an_overridden_handler_is_the_subclasss_and_a_plain_method_hides_it():
    handlers = [str(handler) for handler in Second.as_routes().table.handlers]
    assert handlers == [
        "own  a='1' b='1'", "anything", "overridden  b='2'", "inherited  a='1'",
    ]  # fmt: skip


def test_no_handler_is_a_clear_error_with_what_asked():
    asked = {"page": "x", "action": "turn", "request_id": 7}
    assert told(Pages.as_routes(), content=asked) == [
        {
            "errors": ["No handler takes this message: no filter matches it."],
            "data": None,
            "action": "turn",
            "response_status": 404,
            "request_id": 7,
            "codes": ["not_found"],
        }
    ]


def test_what_a_message_has_no_name_for_is_null_in_its_error():
    [error] = told(Pages.as_routes(), content={"page": "x", "action": 5, "request_id": True})
    assert (error["action"], error["request_id"]) == (None, None)


def test_decorated_with_and_without_parentheses_and_still_a_method():
    class Both(Consumers):
        channel_name = "both"

        @consumer(with_=True)
        def parentheses(self, message):
            self.plain(message)

        @consumer()
        def empty(self, message):
            self.plain(message)

        @consumer
        def plain(self, message):
            self.reply("plain")

    for content in ({"with_": True}, {}):
        assert told(Both.as_routes(), content=content) == ["plain"]


def test_a_handler_is_given_only_the_keywords_that_it_names():
    class Narrow(Consumers):
        channel_name = "narrow"

        @consumer(a="(?P<a>.)(?P<b>.)")
        def named(self, message, *, b, c="c"):
            self.reply([b, c, self.kwargs])

    assert told(Narrow.as_routes(), content={"a": "ab"}) == [["b", "c", {"a": "a", "b": "b"}]]


def test_what_the_route_says_wins_over_what_the_message_says():
    class Room(Consumers):
        channel_name = "room"

        @consumer(room="(?P<room>.*)")
        def entered(self, message, room):
            self.reply(room)

    given = {"room": "mine"}
    assert told(Room.as_routes(), content={"room": "yours"}, kwargs=given) == ["mine"]


def test_what_a_client_names_becomes_no_keyword():
    class Open(Consumers):
        channel_name = "open"

        @consumer
        def taken(self, message, **kwargs):
            self.reply(kwargs)

    content = {"self": 1, "message": 2, "kwargs": 3, "__class__": 4}
    assert told(Open.as_routes(), content=content) == [{}]


@pytest.mark.parametrize("wrong", ["send", 5, classmethod(lambda cls: None)])
def test_what_consumer_cannot_decorate_is_refused(wrong):
    with pytest.raises(ImproperlyConfigured, match="decorates a method"):
        consumer(wrong)


def test_a_generator_would_do_nothing_and_is_refused():
    def items(self, message):
        yield 1

    with pytest.raises(ImproperlyConfigured, match=r"self\.reply"):
        consumer(items)


@pytest.mark.parametrize("name", ["reply", "at_exception", "dispatch", "reply_channel", "send"])
def test_a_handler_that_would_hide_what_handlers_call_is_refused(name):
    def handler(self, message):
        """Would be what `self.reply` calls."""

    base = Consumers if hasattr(Consumers, name) else WebsocketConsumers
    hiding = type("Hiding", (base,), {name: consumer(say="x")(handler), "channel_name": "x"})
    with pytest.raises(ImproperlyConfigured, match=f"handle_{name}"):
        hiding.as_routes()


def test_a_handler_of_this_package_may_be_overridden():
    class Chat(RoomConsumers):
        @consumer(action="send")
        def on_send(self, message):
            super().on_send(message)

    assert str(Chat.as_routes().table.handlers[0]) == "on_send  action='send'"


# Channels


class Named(Consumers):
    channel_name = "default"

    @consumer(page="info")
    def info(self, message):
        self.reply("Info from " + message.channel.name)

    @consumer(channel_name="about")
    def about(self, message):
        self.reply("About from " + message.channel.name)


def test_a_handler_may_listen_on_a_channel_of_its_own():
    routes = Named.as_routes()
    assert routes.channels == ["default", "about"]
    assert told(routes, content={"page": "info"}) == ["Info from default"]
    assert told(routes, channel="about", content={"page": "info"}) == ["About from about"]


def test_of_two_routes_on_one_channel_the_first_that_matches_is_taken():
    class More(Consumers):
        channel_name = "default"

        @consumer(page="info")
        def info(self, message):
            raise AssertionError("the first has it")

        @consumer(page="more")
        def more(self, message):
            self.reply("more")

    both = [Named.as_routes(), More.as_routes()]
    assert told(*both, content={"page": "info"}) == ["Info from default"]
    assert told(*both, content={"page": "more"}) == ["more"]


def test_get_channel_name_may_be_overridden_and_has_its_old_name_too():
    class Computed(Named):
        @classmethod
        def get_channel_name(cls):
            return "computed"

        @consumer(page="name")
        def name(self, message):
            self.reply([self.get_channel_name(), self.get_channels_name()])

    routes = Computed.as_routes()
    assert told(routes, channel="computed", content={"page": "name"}) == [["computed", "computed"]]


def test_a_class_that_nobody_can_reach_is_refused():
    class Nameless(Consumers):
        @consumer
        def taken(self, message):
            """Nobody sends it anything."""

    with pytest.raises(ImproperlyConfigured, match=r"as_routes\(channel_name='...'\)"):
        Nameless.as_routes()


@pytest.mark.parametrize("name", ["", "two words", "a!b", "a#b", "é", "x" * 100, 5, "a\n"])
def test_a_channel_name_that_no_layer_takes_is_refused(name):
    with pytest.raises(ImproperlyConfigured, match="ASCII letters"):
        Named.as_routes(channel_name=name)


def test_a_channel_router_takes_routes_alone():
    with pytest.raises(ImproperlyConfigured, match="as_routes"):
        ChannelRouter(Named)
    assert ChannelRouter(Named.as_routes(), Pages.as_routes()).mapping.keys() == {
        "default", "about", "pages",
    }  # fmt: skip


# Decorators


def shout(name):
    def decorator(handler):
        @functools.wraps(handler)
        def decorated(message, **kwargs):
            message.content["calls"].append(name)
            return handler(message, **kwargs)

        return decorated

    return decorator


class Decorated(Consumers):
    channel_name = "decorated"
    decorators = [shout("class 1"), shout("class 2")]

    @consumer(page="sync", decorators=[shout("own 1"), shout("own 2")])
    def decorated(self, message):
        self.reply(message.content["calls"])

    @consumer(page="async", decorators=[shout("own")])
    async def decorated_async(self, message):
        self.reply(message.content["calls"])


def test_decorators_of_the_class_are_outside_of_the_handlers_the_first_outermost():
    assert told(Decorated.as_routes(), content={"page": "sync", "calls": []}) == [
        ["class 1", "class 2", "own 1", "own 2"]
    ]
    assert told(Decorated.as_routes(), content={"page": "async", "calls": []}) == [
        ["class 1", "class 2", "own"]
    ]


def test_decorators_are_a_keyword_and_get_decorators_a_hook():
    class Hooked(Decorated):
        def get_decorators(self):
            return [*super().get_decorators(), shout(self.message.channel.name)]

    routes = Hooked.as_routes(decorators=[shout("keyword")])
    assert told(routes, content={"page": "async", "calls": []}) == [["keyword", "decorated", "own"]]


def test_a_decorator_may_refuse():
    def refuse(handler):
        def refused(message, **kwargs):
            raise ConsumerError("Not today.", status=403, code="closed")

        return refused

    [error] = told(Pages.as_routes(decorators=[refuse]), content={"page": "1"})
    assert (error["errors"], error["codes"], error["response_status"]) == (
        ["Not today."], ["closed"], 403,
    )  # fmt: skip


# Exceptions


def failing(exc, **methods):
    def fails(self, message):
        raise exc

    async def fails_async(self, message):
        raise exc

    methods["fails"] = consumer(kind="sync")(fails)
    methods["fails_async"] = consumer(kind="async")(fails_async)
    return type("Failing", (Consumers,), {"channel_name": "failing", **methods}).as_routes()


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@KINDS
def test_a_consumer_error_is_answered_with_its_text(kind):
    [error] = told(failing(ConsumerError("Too long.")), content={"kind": kind, "request_id": 1})
    assert error == {
        "errors": ["Too long."],
        "data": None,
        "action": None,
        "response_status": 400,
        "request_id": 1,
        "codes": ["invalid"],
    }


@KINDS
def test_drfs_exceptions_are_answered_as_drf_does(kind):
    [error] = told(failing(ValidationError({"text": ["Too long."]})), content={"kind": kind})
    assert error["errors"] == [{"text": ["Too long."]}]
    assert error["codes"] == [{"text": ["invalid"]}]
    assert error["response_status"] == 400
    [error] = told(failing(DjangoPermissionDenied()), content={"kind": kind})
    assert error["response_status"] == 403


@KINDS
def test_anything_else_is_a_500_with_an_id_that_is_in_the_log(kind, caplog):
    with caplog.at_level(logging.ERROR, "rest_channels"):
        [error] = told(failing(ZeroDivisionError("secret")), content={"kind": kind})
    assert error["response_status"] == 500
    assert "secret" not in str(error)
    [record] = caplog.records
    assert record.error_id in error["errors"][0]
    assert record.exc_info[0] is ZeroDivisionError


@KINDS
def test_at_exception_may_deal_with_it(kind):
    def at_exception(self, exc):
        self.reply(f"caught {exc}")

    routes = failing(ValueError("it"), at_exception=at_exception)
    assert told(routes, content={"kind": kind}) == ["caught it"]


@KINDS
def test_at_exception_may_be_async(kind):
    async def at_exception(self, exc):
        self.reply(f"caught {exc}")

    routes = failing(ValueError("it"), at_exception=at_exception)
    assert told(routes, content={"kind": kind}) == ["caught it"]


@KINDS
@pytest.mark.parametrize("is_async", [False, True])
def test_at_exception_may_raise_another_and_is_not_asked_again(kind, is_async):
    asked = []

    def at_exception(self, exc):
        asked.append(exc)
        raise ConsumerError(f"because of {exc}")

    async def at_exception_async(self, exc):
        at_exception(self, exc)

    chosen = at_exception_async if is_async else at_exception
    [error] = told(failing(ValueError("it"), at_exception=chosen), content={"kind": kind})
    assert error["errors"] == ["because of it"]
    assert len(asked) == 1


def test_nobody_matching_is_for_at_exception_as_well():
    def at_exception(self, exc):
        self.reply(exc.status)

    assert told(failing(None, at_exception=at_exception), content={}) == [404]


# Where handlers run


def test_a_def_handler_runs_in_a_worker_thread_and_an_async_one_on_the_loop():
    class Where(Consumers):
        channel_name = "where"

        @consumer(kind="sync")
        def sync(self, message):
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            self.reply(threading.current_thread().name.startswith("rest_channels"))

        @consumer(kind="async")
        async def async_(self, message):
            asyncio.get_running_loop()
            self.reply(threading.current_thread() is threading.main_thread())

    assert told(Where.as_routes(), content={"kind": "sync"}) == [True]
    assert told(Where.as_routes(), content={"kind": "async"}) == [True]


def test_replies_leave_in_the_order_in_which_they_are_said():
    class Many(Consumers):
        channel_name = "many"

        @consumer
        def many(self, message):
            for number in range(50):
                self.reply(number)

    assert told(Many.as_routes(), content={}) == list(range(50))


def test_a_reply_is_strict_json_as_drf_writes_it():
    import datetime

    class Dated(Consumers):
        channel_name = "dated"

        @consumer(kind="date")
        def dated(self, message):
            self.reply({"on": datetime.date(2024, 2, 29)})

        @consumer(kind="nan")
        def nan(self, message):
            self.reply(float("nan"))

    assert told(Dated.as_routes(), content={"kind": "date"}) == [{"on": "2024-02-29"}]
    [error] = told(Dated.as_routes(), content={"kind": "nan"})
    assert error["response_status"] == 500


def test_a_channel_may_be_sent_to_from_a_handler():
    class Door(Consumers):
        channel_name = "example"

        @property
        def message_text(self):
            return self.kwargs.get("gate", "no")

        @consumer(gate=r"g-(?P<gate>\w+)")
        def notify(self, message, **kwargs):
            Channel("asker#1").send({"text": self.message_text})

    assert told(Door.as_routes(), content={"gate": "g-7"}) == [{"text": "7"}]
