"""ASGI applications that server processes of the tests serve."""
