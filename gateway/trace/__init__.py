"""Record what happens to each request, store it for a while, and show it."""
