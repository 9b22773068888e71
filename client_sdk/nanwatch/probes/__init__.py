"""What is measured inside the training. The only package besides `control` that may use torch."""
