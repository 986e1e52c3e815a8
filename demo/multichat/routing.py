"""Routes of the websocket: the API's viewsets on another router, and the consumers of rooms."""

from rest_channels.routers import DefaultRouter

from chat.consumers import Here
from chat.views import MessageViewSet, RoomViewSet, UserViewSet
from kanban.consumers import AtBoard
from kanban.views import BoardViewSet, CardViewSet, ColumnViewSet

router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("messages", MessageViewSet)
router.register("users", UserViewSet)
router.register("here", Here)
router.register("boards", BoardViewSet)
router.register("columns", ColumnViewSet)
router.register("cards", CardViewSet)
router.register("at_board", AtBoard)
