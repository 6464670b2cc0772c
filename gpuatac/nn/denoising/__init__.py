"""The denoiser: its networks, its examples, and how whole tracks pass through it."""
