"""Models of every kind of key."""

from __future__ import annotations

import enum

from django.db import models


class Hue(str, enum.Enum):  # noqa: UP042 - its `str()` is not its value
    RED = "red"


class Shade(models.TextChoices):
    DARK = "dark"


class Ticket:
    """A project's own kind of number."""

    def __init__(self, number):
        self.number = number

    def __str__(self):
        return f"T-{self.number}"

    def __eq__(self, other):
        return isinstance(other, Ticket) and self.number == other.number

    def __hash__(self):
        return hash(self.number)

    def __lt__(self, other):
        # Django sorts what it deletes.
        return self.number < other.number


class TicketField(models.IntegerField):
    """An integer in the database, which the project never sees."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else Ticket(value)

    def to_python(self, value):
        if isinstance(value, Ticket) or value is None:
            return value
        return Ticket(int(str(value).removeprefix("T-")))

    def get_prep_value(self, value):
        value = self.to_python(value)
        return None if value is None else value.number


class LowerField(models.CharField):
    """Whatever is assigned, lower case is what is there."""

    def get_prep_value(self, value):
        value = super().get_prep_value(value)
        return value and value.lower()


def keyed(name, key):
    """A model of this key, and of something to write to."""
    meta = type("Meta", (), {"app_label": "tests"})
    columns = {"key": key, "note": models.CharField(max_length=20, default="")}
    return type(f"{name}Row", (models.Model,), {"__module__": __name__, "Meta": meta, **columns})


Integers = keyed("Integer", models.BigAutoField(primary_key=True))
Uuids = keyed("Uuid", models.UUIDField(primary_key=True))
Texts = keyed("Text", models.CharField(primary_key=True, max_length=20))
Decimals = keyed("Decimal", models.DecimalField(primary_key=True, max_digits=9, decimal_places=2))
Moments = keyed("Moment", models.DateTimeField(primary_key=True))
Days = keyed("Day", models.DateField(primary_key=True))
Times = keyed("Time", models.TimeField(primary_key=True))
Spans = keyed("Span", models.DurationField(primary_key=True))
Floats = keyed("Float", models.FloatField(primary_key=True))
Bytes = keyed("Bytes", models.BinaryField(primary_key=True, max_length=20))
Addresses = keyed("Address", models.GenericIPAddressField(primary_key=True))
Tickets = keyed("Ticket", TicketField(primary_key=True))
Lowers = keyed("Lower", LowerField(primary_key=True, max_length=20))
ToDecimals = keyed(
    "ToDecimal", models.OneToOneField(Decimals, models.CASCADE, primary_key=True, related_name="+")
)
ToMoments = keyed(
    "ToMoment", models.ForeignKey(Moments, models.CASCADE, primary_key=True, related_name="+")
)
