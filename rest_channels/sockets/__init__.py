"""The engine of one socket: frames in, DRF's dispatch, replies out."""
