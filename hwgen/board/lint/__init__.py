"""A lint of the generated Tcl: runs it in a real Tcl interpreter against what is known of Vivado.

It knows the commands, cells, properties, pins and addresses that this project uses, and takes
everything else for a mistake. It is no Vivado: nothing is synthesised, placed or timed.
"""
