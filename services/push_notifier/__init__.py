"""Wakes devices: knows which channels have work waiting, sends one push a channel through the
vendor's push service, understands every answer, and looks after the vendor's push certificates.
"""
