"""Notifications: who is told of which incident and when, and how the message gets there."""
