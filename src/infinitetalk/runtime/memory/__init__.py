"""Where weights live: on the device, in pinned main memory or on disk, and how they come to the device in time."""
