"""What a store is on disk, and the only paths into it."""
