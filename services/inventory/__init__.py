"""What is true of each device now, and at any past time.

Devices' answers become vendor-neutral facts and lists of applications, profiles and certificates;
the others hear only of what changed. Inventory also asks: at enrollment, on a schedule, and after a
change of configuration.
"""

from __future__ import annotations
