"""Over websockets: the same viewsets, on another router."""

from rest_channels.routers import DefaultRouter

from chat.views import MessageViewSet, RoomViewSet, UserViewSet

router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("messages", MessageViewSet)
router.register("users", UserViewSet)
