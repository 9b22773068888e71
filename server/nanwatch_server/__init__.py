"""The nanwatch server: stores every point, detects trouble, opens incidents, queues commands."""
