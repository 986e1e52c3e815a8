from typing import Any

from django.db import migrations, models

from rest_channels.live.capture import triggers


def remove_triggers(apps: Any, schema_editor: Any) -> None:
    """
    Remove triggers in projects that send no signals of migrations.

    Otherwise a write would fail because the trigger's table is missing.
    """
    triggers.remove(schema_editor.connection.alias)


class Migration(migrations.Migration):
    initial = True

    dependencies: list[Any] = []

    operations = [
        migrations.CreateModel(
            name="PendingChange",
            fields=[
                ("model", models.CharField(max_length=201)),
                ("key", models.TextField(null=True)),
                ("kind", models.CharField(max_length=6)),
                ("fields", models.TextField(null=True)),
                ("created_at", models.DateTimeField()),
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("transaction", models.BigIntegerField(null=True)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="Change",
            fields=[
                ("model", models.CharField(max_length=201)),
                ("key", models.TextField(null=True)),
                ("kind", models.CharField(max_length=6)),
                ("fields", models.TextField(null=True)),
                ("created_at", models.DateTimeField()),
                ("position", models.BigIntegerField(primary_key=True, serialize=False)),
                ("mark", models.BigIntegerField()),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["created_at"], name="rest_channels_change_age"),
                ],
            },
        ),
        migrations.CreateModel(
            name="LogHead",
            fields=[
                ("id", models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
                ("position", models.BigIntegerField()),
                ("mark", models.BigIntegerField()),
            ],
            options={"default_permissions": ()},
        ),
        # Last to be applied, first to be reversed.
        migrations.RunPython(migrations.RunPython.noop, remove_triggers),
    ]
