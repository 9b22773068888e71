"""Incidents: findings of one trouble and the states people move them through. No I/O."""
