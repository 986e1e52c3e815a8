"""URLs over HTTP: the page, and the API as in any DRF project."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from rest_framework.routers import DefaultRouter

from chat.views import MessageViewSet, Page, RoomViewSet, UserViewSet
from kanban import views as kanban

router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("messages", MessageViewSet)
router.register("users", UserViewSet)
router.register("boards", kanban.BoardViewSet)
router.register("columns", kanban.ColumnViewSet)
router.register("cards", kanban.CardViewSet)

sign_in = LoginView.as_view(template_name="chat/sign_in.html", redirect_authenticated_user=True)

urlpatterns = [
    path("", Page.as_view(), name="page"),
    path("kanban/", kanban.Page.as_view(), name="kanban"),
    path("sign-in/", sign_in, name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("api/", include(router.urls)),
    path("sockets/", include("rest_channels.console.urls")),
]
