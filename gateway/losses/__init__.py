"""What an event knows and a destination's format cannot say: computed from the mapping tables."""
