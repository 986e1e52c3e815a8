"""An app whose rows remember who wrote them, by django-simple-history."""
