"""Who is asking and what they may reach: tokens, browser sessions and the gate around the app."""
