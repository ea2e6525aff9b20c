"""What a fleet orders and the link to it may not do itself: restarting services, settings, the self-test."""
