"""`manage.py demo`: migrate, seed, serve."""

import warnings
from contextlib import suppress

import uvicorn
from django.core.management import call_command
from django.core.management.base import BaseCommand

from chat.management.commands.seed import PASSWORD, USERS


class Command(BaseCommand):
    help = "Prepare the database and serve the demo; Ctrl+C ends it."

    def add_arguments(self, parser):
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
        parser.add_argument(
            "--port", default=8000, type=int, help="the port to listen on; 0 chooses a free one"
        )
        parser.add_argument("--page", default="", help="the path of the address that is printed")

    def handle(self, *, host, port, page, **options):
        call_command("migrate", verbosity=0)
        call_command("seed", stdout=self.stdout)
        call_command("seed_kanban", stdout=self.stdout)
        config = uvicorn.Config("multichat.asgi:application", host, port, log_level="warning")
        listening = config.bind_socket()
        listening.listen()  # now, because a reader of the URL below may connect at once
        users = " or ".join(
            f"{name} (staff)" if of["is_staff"] else name for name, of in USERS.items()
        )
        self.stdout.write(f"Sign in as {users}, password {PASSWORD}. Ctrl+C ends.")
        self.stdout.write(f"http://{host}:{listening.getsockname()[1]}/{page}")
        self.stdout.flush()
        # Django warns about static files served by an async server, which only costs speed.
        warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume")
        # The server raises the signal that ended it again when it is done.
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
