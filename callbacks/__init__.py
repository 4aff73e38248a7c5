"""Lightning callbacks: they pick the moment and call `align`."""
