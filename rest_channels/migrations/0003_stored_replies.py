from typing import Any

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: list[Any] = [("rest_channels", "0002_room_history")]

    operations = [
        migrations.CreateModel(
            name="StoredReply",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("owner", models.CharField(max_length=64)),
                ("request", models.CharField(max_length=64)),
                ("status", models.PositiveSmallIntegerField()),
                ("data", models.TextField()),
                ("headers", models.TextField()),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["owner", "created_at"], name="rest_channels_reply_owner"),
                    models.Index(fields=["created_at"], name="rest_channels_reply_age"),
                ],
            },
        ),
    ]
