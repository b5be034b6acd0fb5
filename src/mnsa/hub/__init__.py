"""Models of other people and for them: found by folder or by name on the hub, saved with a card, pushed."""
