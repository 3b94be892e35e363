"""Answer text → valid value → output rows."""
