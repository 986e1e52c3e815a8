"""What the tests share: clients, servers, services, comparisons, projects and random programs."""
