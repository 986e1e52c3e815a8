"""Serializers with the shapes that are hard to describe, and the components made of them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema_field
from rest_framework import mixins, routers, serializers, viewsets


class GroupSerializer(serializers.ModelSerializer):
    class Meta:
        model = Group
        fields = ["id", "name"]


class NodeSerializer(serializers.Serializer):
    """A tree, whose input may end in */ a comment."""

    name = serializers.CharField(help_text="The name, not */ the end.")

    def get_fields(self) -> dict[str, Any]:
        return {**super().get_fields(), "children": NodeSerializer(many=True, required=False)}


class CatSerializer(serializers.Serializer):
    kind = serializers.CharField()
    lives = serializers.IntegerField(min_value=0, max_value=9)


class DogSerializer(serializers.Serializer):
    kind = serializers.CharField()
    breed = serializers.CharField(allow_null=True)


PET = PolymorphicProxySerializer(
    "Pet", {"cat": CatSerializer, "dog": DogSerializer}, resource_type_field_name="kind"
)


class OddSerializer(serializers.Serializer):
    """
    A row of everything.

    With a second paragraph.
    """

    id = serializers.IntegerField(read_only=True)
    big = serializers.IntegerField(max_value=2**63 - 1, help_text="Bytes on disk.")
    price = serializers.DecimalField(10, 2)
    weight = serializers.DecimalField(10, 2, coerce_to_string=False)
    at = serializers.DateTimeField(read_only=True)
    day = serializers.DateField(allow_null=True)
    kind = serializers.ChoiceField(["a", "b"], allow_null=True, allow_blank=True)
    level = serializers.ChoiceField([(1, "Low"), (2, "High")], help_text="How much.")
    marks = serializers.MultipleChoiceField(choices=["x", "y"], required=False)
    image = serializers.ImageField(read_only=True)
    extra = serializers.JSONField(required=False)
    counts = serializers.DictField(child=serializers.IntegerField(), read_only=True)
    lines = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField(allow_null=True)), required=False
    )
    secret = serializers.CharField(write_only=True, required=False)
    group = GroupSerializer()
    former_group = GroupSerializer(allow_null=True, read_only=True)
    tree = NodeSerializer(required=False)
    pet = serializers.SerializerMethodField()
    is_open = serializers.BooleanField(default=False)

    def get_fields(self) -> dict[str, Any]:
        dashed = {"da-sh": serializers.CharField(), "1st": serializers.CharField(required=False)}
        return {**super().get_fields(), **dashed}

    @extend_schema_field(PET)
    def get_pet(self, row: Any) -> Any:
        return row.pet


class OddViewSet(mixins.CreateModelMixin, viewsets.GenericViewSet):
    schema = AutoSchema()
    serializer_class = OddSerializer


def odd_components(**settings: Any) -> dict[str, Any]:
    """Return the components that drf-spectacular makes of them, with these settings of its own."""
    router = routers.SimpleRouter()
    router.register("odd", OddViewSet, basename="odd")
    with patched_settings(settings):
        document = SchemaGenerator(patterns=router.urls).get_schema(request=None, public=True)
    return document["components"]["schemas"]
