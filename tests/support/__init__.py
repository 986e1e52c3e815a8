"""Helpers of the tests: clients, servers, services, comparisons, projects, random programs."""
