"""Break something, observe, mend, then check the whole log."""
