"""What the accelerator is: shape, numbers, layout, registers, commands. Standard library only.

The hardware (``hwgen``), the reference (``sim.golden``) and the runtime (``host``) each read this
package and never each other, so their agreement means something.
"""
