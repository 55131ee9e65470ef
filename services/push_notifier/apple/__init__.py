"""The wire side of waking Apple devices."""
