"""The box itself: how its services and its hardware are doing."""
