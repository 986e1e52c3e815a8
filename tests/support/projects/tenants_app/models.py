from __future__ import annotations

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Client(TenantMixin):
    name = models.CharField(max_length=20)
    auto_create_schema = False


class Domain(DomainMixin):
    pass


class Invoice(models.Model):
    text = models.CharField(max_length=40)
