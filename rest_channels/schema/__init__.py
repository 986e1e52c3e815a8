"""The description of a project's sockets, and documents made of it."""
