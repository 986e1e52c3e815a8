r"""
Class-based consumers: a class is a group of handlers, an instance serves one message.

    class Chat(WebsocketConsumers):
        @consumer(command="greet", name=r"(?P<name>\w+)")
        def greet(self, message, name):
            self.reply({"text": f"Hello, {name}"})

    application = URLRouter(Chat.as_routes(path="/chat"))
"""

from rest_channels.consumers.base import Consumers, Message, Routes
from rest_channels.consumers.channels import Channel, Group
from rest_channels.consumers.groups.group_consumers import GroupConsumers
from rest_channels.consumers.groups.rooms import RoomConsumers
from rest_channels.consumers.handlers import consumer
from rest_channels.consumers.model_consumers import (
    CreateConsumers,
    CRUDConsumers,
    DeleteConsumers,
    ListConsumers,
    ReadOnlyConsumers,
    UpdateConsumers,
)
from rest_channels.consumers.subscription_consumers import (
    ModelSubscribeConsumers,
    ObjectSubscribeConsumers,
)
from rest_channels.consumers.user_mixins import (
    NoReceiveMixin,
    PermissionMixin,
    SessionMixin,
    UserMixin,
)
from rest_channels.consumers.websockets import WebsocketConsumers
from rest_channels.exceptions import ConsumerError

__all__ = [
    "CRUDConsumers",
    "Channel",
    "ConsumerError",
    "Consumers",
    "CreateConsumers",
    "DeleteConsumers",
    "Group",
    "GroupConsumers",
    "ListConsumers",
    "Message",
    "ModelSubscribeConsumers",
    "NoReceiveMixin",
    "ObjectSubscribeConsumers",
    "PermissionMixin",
    "ReadOnlyConsumers",
    "RoomConsumers",
    "Routes",
    "SessionMixin",
    "UpdateConsumers",
    "UserMixin",
    "WebsocketConsumers",
    "consumer",
]
