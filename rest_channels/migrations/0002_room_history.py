from typing import Any

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: list[Any] = [("rest_channels", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="RoomHead",
            fields=[
                ("room", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("number", models.BigIntegerField()),
                ("mark", models.BigIntegerField()),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="RoomMessage",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("room", models.CharField(max_length=64)),
                ("number", models.BigIntegerField()),
                ("mark", models.BigIntegerField()),
                ("data", models.TextField()),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("room", "number"), name="rest_channels_room_message_number"
                    ),
                ],
            },
        ),
    ]
