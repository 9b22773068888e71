"""Live data to browsers: the binary frame, bounded subscribers, who is connected, the wall."""
