"""Accept customer-data events in one vendor's format, deliver them in any other's."""
