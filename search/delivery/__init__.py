"""What people take home from a search."""
