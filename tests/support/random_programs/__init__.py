"""Random programs of writers and subscribers, and the worlds they run in."""
