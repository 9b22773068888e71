"""HTTP routes and the live socket. Routes translate; what they answer with is made elsewhere."""
