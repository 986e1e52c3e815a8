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
        parser.add_argument("--port", default=8000, type=int, help="0 takes one that is free")

    def handle(self, *, host, port, **options):
        call_command("migrate", verbosity=0)
        call_command("seed", stdout=self.stdout)
        config = uvicorn.Config("multichat.asgi:application", host, port, log_level="warning")
        listening = config.bind_socket()
        listening.listen()  # now: whoever reads the URL below may connect at once
        users = " or ".join(
            f"{name} (staff)" if of["is_staff"] else name for name, of in USERS.items()
        )
        self.stdout.write(f"Sign in as {users}, password {PASSWORD}. Ctrl+C ends.")
        self.stdout.write(f"http://{host}:{listening.getsockname()[1]}/")
        self.stdout.flush()
        # What Django says of static files served from an async server: a matter of speed.
        warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume")
        # The signal that ends the server is raised once more when it is done.
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
