"""Routes of the websocket: the API's viewsets on another router, and the consumers of rooms."""

from rest_channels.routers import DefaultRouter

from chat.consumers import Here
from chat.views import MessageViewSet, RoomViewSet, UserViewSet

router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("messages", MessageViewSet)
router.register("users", UserViewSet)
router.register("here", Here)
