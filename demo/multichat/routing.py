"""Over websockets: the same viewsets, on another router."""

from chat.views import MessageViewSet, RoomViewSet, UserViewSet

from rest_channels.routers import DefaultRouter

router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("messages", MessageViewSet)
router.register("users", UserViewSet)
