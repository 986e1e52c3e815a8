"""
Serve the demo for tests of the client, also as it is not shipped: on daphne, and on PostgreSQL.

    python serve.py uvicorn|daphne PORT [DATABASE]
    python serve.py drop DATABASE

`DATABASE` is one of PostgreSQL, which it creates; without it, `DEMO_DATABASE` names an SQLite file.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "demo"))
os.environ["DJANGO_SETTINGS_MODULE"] = "multichat.settings"

HOST = os.environ.get("PGHOST", "127.0.0.1")
USER = os.environ.get("PGUSER", "postgres")


def administer(statement: str, database: str) -> None:
    import psycopg

    where = {"host": HOST, "user": USER, "dbname": "postgres"}
    with psycopg.connect(**where, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL(statement).format(psycopg.sql.Identifier(database)))


def use_postgresql(database: str) -> None:
    import psycopg
    from multichat import settings

    # It is there if the server has been killed and starts again.
    with suppress(psycopg.errors.DuplicateDatabase):
        administer("CREATE DATABASE {}", database)
    engine = "django.db.backends.postgresql"
    where = {"ENGINE": engine, "NAME": database, "HOST": HOST, "USER": USER}
    settings.DATABASES = {"default": where}


def serve_with_daphne(port: int) -> None:
    from daphne.endpoints import build_endpoint_description_strings
    from daphne.server import Server
    from multichat.asgi import application

    endpoints = build_endpoint_description_strings(host="127.0.0.1", port=port)
    Server(application, endpoints, ready_callable=lambda: say_ready(port)).run()


def say_ready(port: int) -> None:
    print(f"http://127.0.0.1:{port}/", flush=True)


def main(server: str, *arguments: str) -> None:
    if server == "drop":
        return administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", *arguments)
    port, *databases = arguments
    for database in databases:
        use_postgresql(database)

    import django
    from django.core.management import call_command

    django.setup()
    if server == "uvicorn":
        return call_command("demo", port=int(port))
    call_command("migrate", verbosity=0)
    call_command("seed")
    serve_with_daphne(int(port))
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
