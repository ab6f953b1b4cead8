"""What people know about features: labels, notes and collections, written, undone and shown."""
